#!/usr/bin/env bash
# Versions: chromadb 1.5.9, sentence-transformers 6.2.0, torch 2.13.0 (Python 3.11).
# Guess: two `SentenceTransformerEmbeddingFunction`s of one model, one of them with `truncate_dim`, a prompt, a revision
#   or a device of its own, each embed as they were told.
# Seen: the class keeps one model for each name, and the first one's options with it. The second function embeds as the
#   first, though its `get_config`, which Chroma stores with the collection, says otherwise; in the next process, where
#   it comes first, the same configuration gives other vectors, even of another length.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 sentence-transformers==6.2.0 chromadb==1.5.9
cat > "$folder/run.py" <<'PYTHON'
import sys

import numpy as np
from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

folder, order = sys.argv[1], sys.argv[2].split(",")
tokenizer = Tokenizer(models.WordLevel({"?": 0, "cat": 1}, unk_token="?"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
module = StaticEmbedding(tokenizer, embedding_weights=np.ones((2, 8), np.float32))
SentenceTransformer(modules=[module], device="cpu").save(folder)
options = {"whole": {}, "short": {"truncate_dim": 4}}
functions = {name: SentenceTransformerEmbeddingFunction(folder, **options[name]) for name in order}
short = functions["short"]
print(short.get_config()["kwargs"], len(short(["cat"])[0]))
PYTHON
run() { "$folder/env/bin/python" "$folder/run.py" "$folder/model" "$1" 2> /dev/null; }
second=$(run whole,short)
first=$(run short,whole)
echo "options and dimensions of a function that is made second: $second; made first: $first"
[ "$second" = "{'truncate_dim': 4} 8" ] && [ "$first" = "{'truncate_dim': 4} 4" ]
