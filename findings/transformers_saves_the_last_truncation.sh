#!/usr/bin/env bash
# Versions: transformers 5.24.0, tokenizers 0.23.3 (Python 3.11).
# Guess: `save_pretrained` of a tokenizer writes it as it was loaded; what one call cuts or pads is that call's affair.
# Seen: a call with `truncation` or `padding` sets both inside the tokenizer, and saving writes them into
#   `tokenizer.json`. transformers itself sets them anew at each call and never shows it. Whatever reads the file alone
#   (tokenizers, its Rust and JavaScript forms, and servers built on them) cuts and pads every text as that last call
#   did: a probe with max_length=2 before saving leaves a tokenizer that reads two tokens.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check transformers==5.24.0 tokenizers==0.23.3
"$folder/env/bin/python" - "$folder" 2> "$folder/log" <<'PYTHON'
import sys

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

folder = sys.argv[1]
core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["?", "-", *"abcd"])}, unk_token="?"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="-", unk_token="?")


def tokens_of_saved(name):
    tokenizer.save_pretrained(f"{folder}/{name}")
    read = Tokenizer.from_file(f"{folder}/{name}/tokenizer.json")
    return [read.encode(text).tokens for text in ("a b c d", "a")]


before = tokens_of_saved("before")
tokenizer(["a probe"], truncation=True, max_length=2, padding="max_length")
after = tokens_of_saved("after")
again = PreTrainedTokenizerFast.from_pretrained(f"{folder}/after")
by_transformers = again.convert_ids_to_tokens(again("a b c d")["input_ids"])
print(f"'a b c d' and 'a' by the file saved before a call: {before}")
print(f"by the file saved after it: {after}; by transformers from the same file: {by_transformers}")
right = [["a", "b", "c", "d"], ["a"]]
sys.exit(0 if before == right and after == [["a", "b"], ["a", "-"]] and by_transformers == right[0] else 1)
PYTHON
