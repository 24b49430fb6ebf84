#!/usr/bin/env bash
# Versions: llama-index-core 0.14.25 (Python 3.11).
# Guess: `embeddings_cache` of an embedding class keeps apart what differs: queries and texts, which many models want
#   with different prompts, and the vectors of different models in one store.
# Seen: the key is the text and nothing else. A query that equals a stored text gets the text's vector, computed with
#   the other prompt, and a text that equals an earlier query gets the query's; a second model on the same store
#   returns the first one's vectors, of another length even. Nothing is raised or logged.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check llama-index-core==0.14.25
"$folder/env/bin/python" - <<'PYTHON'
import sys

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.storage.kvstore import SimpleKVStore


class Small(BaseEmbedding):
    """Stands for any model with prompts: its queries and texts lie elsewhere."""

    def _get_query_embedding(self, query):
        return [1.0, 0.0]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text):
        return [0.0, 1.0]


class Large(Small):
    def _get_text_embedding(self, text):
        return [0.0, 0.0, 1.0]


store = SimpleKVStore()
small = Small(model_name="small", embeddings_cache=store)
large = Large(model_name="large", embeddings_cache=store)
text = small.get_text_embedding("a cat on a mat")
query = small.get_query_embedding("a cat on a mat")
of_large = large.get_text_embedding("a cat on a mat")
print(f"a text: {text}; a query of the same words: {query}, where [1.0, 0.0] is right")
print(f"the same text by another model: {of_large}, where [0.0, 0.0, 1.0] is right")
sys.exit(0 if query == text == of_large else 1)
PYTHON
