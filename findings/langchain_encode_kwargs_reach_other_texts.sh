#!/usr/bin/env bash
# Versions: langchain-huggingface 1.2.3, sentence-transformers 6.2.0, torch 2.13.0 (Python 3.11).
# Guess: of `HuggingFaceEmbeddings`, `encode_kwargs` are for documents and `query_encode_kwargs` for queries, as their
#   descriptions say; and `multi_process=True` computes the same vectors in more processes.
# Seen: queries take the documents' options wherever `query_encode_kwargs` is empty, given or not: with the prompt of
#   documents in `encode_kwargs` it is put before every query, and the only way to have none is to say something else.
#   With several processes neither reaches anything: no prompt, no unit length.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.13.0 sentence-transformers==6.2.0 langchain-huggingface==1.2.3
cat > "$folder/run.py" <<'PYTHON'
import sys

import numpy as np
from langchain_huggingface import HuggingFaceEmbeddings
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("?", "passage", ":", "cat")  # each is a dimension of the model


def save_model(folder):
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    module = StaticEmbedding(tokenizer, embedding_weights=3 * np.eye(len(WORDS), dtype=np.float32))
    SentenceTransformer(modules=[module], prompts={"passage": "passage: "}, device="cpu").save(folder)


def embeddings(folder, **options):
    documents = {"prompt_name": "passage", "normalize_embeddings": True}
    return HuggingFaceEmbeddings(model_name=folder, encode_kwargs=documents, **options)


def words(vector):
    return [word for word, value in zip(WORDS, vector, strict=True) if value]


def main():
    folder = sys.argv[1]
    save_model(folder)
    (document,) = embeddings(folder).embed_documents(["cat"])
    query = embeddings(folder, query_encode_kwargs={}).embed_query("cat")
    (pooled,) = embeddings(folder, multi_process=True).embed_documents(["cat"])
    print(f"a document is embedded as {words(document)}, a query as {words(query)}")
    norms = np.linalg.norm([document, pooled], axis=1).round(2)
    print(f"several processes embed the document as {words(pooled)}; norms {norms[0]} and {norms[1]}")
    return 0 if query == document and words(pooled) == ["cat"] and norms[1] > 1 else 1


if __name__ == "__main__":
    sys.exit(main())
PYTHON
"$folder/env/bin/python" "$folder/run.py" "$folder/model"
