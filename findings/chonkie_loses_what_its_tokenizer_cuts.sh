#!/usr/bin/env bash
# Versions: chonkie 1.7.0, tokenizers 0.23.3 (Python 3.11).
# Guess: the chunks of `TokenChunker` together are the text, and `text[chunk.start_index:chunk.end_index]` is a chunk's.
# Seen: it splits the tokens that the tokenizer gives and decodes them. Most models' `tokenizer.json` declares a
#   truncation: all that lies behind it is in no chunk, and nothing says so; a declared padding becomes empty chunks. Of
#   tokenizers that lower-case, as BERT's do, the chunks are another text ("don ' t", "##1"), and the indices, counted
#   on what was decoded, point elsewhere into the text that was given.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check chonkie==1.7.0 tokenizers==0.23.3
"$folder/env/bin/python" - <<'PYTHON'
import sys

from chonkie import TokenChunker
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

TEXT = "Don't cut the text. Don't lose it."

words = ["[UNK]", "don", "'", "t", "cut", "the", "text", ".", "lose", "it"]
tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer()
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
tokenizer.decoder = decoders.WordPiece()


def chunks():
    found = TokenChunker(tokenizer=tokenizer, chunk_size=4).chunk(TEXT)
    return [(chunk.text, TEXT[chunk.start_index : chunk.end_index]) for chunk in found]


whole = chunks()
tokenizer.enable_truncation(8)
cut = chunks()
print(f"chunks, each with what its indices name: {whole}")
print(f"with a truncation of 8 tokens in the tokenizer's file: {[text for text, _ in cut]}")
lost = "lose" not in " ".join(text for text, _ in cut)
moved = any(text.lower() != named.lower() for text, named in whole)
sys.exit(0 if lost and moved and "lose" in " ".join(text for text, _ in whole) else 1)
PYTHON
