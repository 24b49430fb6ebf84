#!/usr/bin/env bash
# Versions: tokenizers 0.23.3 (Python 3.11).
# Guess: an overlap of windows (`stride`) that is too large for `max_length` is refused by enable_truncation, or at least
#   by an Exception of the call that meets it.
# Seen: enable_truncation takes any stride below max_length. Special tokens are then subtracted from max_length, and the
#   first long text panics with pyo3's PanicException, which is a BaseException: `except Exception` in a worker does not
#   catch it, and short texts work all the while.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check tokenizers==0.23.3
"$folder/env/bin/python" - <<'PYTHON' 2>/dev/null
import sys

import tokenizers
from tokenizers import models, pre_tokenizers, processors

vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "un": 3, "##able": 4, "a": 5}
tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
tokenizer.enable_truncation(8, stride=6)  # below 8, and not below the 6 that special tokens leave
short = len(tokenizer.encode("a a a"))
raised = None
try:
    tokenizer.encode("a " * 50)
except BaseException as error:
    raised = error
print(f"a short text: {short} tokens; a long one: {type(raised).__name__}, an Exception: {isinstance(raised, Exception)}")
sys.exit(0 if raised is not None and not isinstance(raised, Exception) else 1)
PYTHON
