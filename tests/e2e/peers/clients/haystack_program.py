"""Embeds a text and documents with Haystack's TEI components over gRPC, and prints the vectors."""

import asyncio
import json
import sys

from haystack import Document
from haystack_integrations.components.embedders.huggingface_api import (
    HuggingFaceAPIDocumentEmbedder,
    HuggingFaceAPITextEmbedder,
)


def main(target, texts):
    """Blocking and asyncio."""
    how = {
        "api_type": "text_embeddings_inference",
        "api_params": {"url": target},
        "token": None,
        "use_grpc": True,
    }
    text_embedder = HuggingFaceAPITextEmbedder(**how)
    document_embedder = HuggingFaceAPIDocumentEmbedder(**how, progress_bar=False)
    documents = [Document(content=text) for text in texts]
    found = {
        "text": text_embedder.run(text=texts[0])["embedding"],
        "documents": [each.embedding for each in document_embedder.run(documents)["documents"]],
        "asyncio": asyncio.run(text_embedder.run_async(text=texts[0]))["embedding"],
    }
    print(json.dumps(found))


main(sys.argv[1], json.loads(sys.argv[2]))
