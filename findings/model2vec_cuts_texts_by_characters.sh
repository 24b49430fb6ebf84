#!/usr/bin/env bash
# Versions: model2vec 0.10.0, tokenizers 0.23.3 (Python 3.11).
# Guess: `max_length` of a `StaticModel` counts tokens, as its description says: a text of fewer tokens is read whole.
# Seen: before it counts tokens it cuts each text after `max_length` x the median length of the vocabulary's entries,
#   in characters. Of words longer than the median, be it German, chemistry or code, the end is dropped though the
#   text has fewer tokens than allowed, with no word of it; the word at the cut counts as unknown. `max_length=None`
#   turns both cuts off.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check model2vec==0.10.0 tokenizers==0.23.3
"$folder/env/bin/python" - <<'PYTHON'
import sys

import numpy as np
from model2vec import StaticModel
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("[UNK]", "a", "and", "cat", "mat", "on", "the", "internationalization", "electroencephalography")
TEXT = "internationalization and electroencephalography"

tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
model = StaticModel(np.eye(len(WORDS), dtype=np.float32), tokenizer, max_length=8)


def words(vector):
    return [WORDS[i] for i in np.flatnonzero(vector)]


cut, whole = words(model.encode(TEXT)), words(model.encode(TEXT, max_length=None))
tokens = len(tokenizer.encode(TEXT).ids)
print(f"a text of {tokens} tokens and {len(TEXT)} characters, of a model that reads 8 tokens")
print(f"its vector is of {cut}; with max_length=None of {whole}")
sys.exit(0 if tokens < 8 and len(cut) < len(whole) == tokens else 1)
PYTHON
