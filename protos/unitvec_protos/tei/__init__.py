"""Generated messages and stubs of what we answer of text-embeddings-inference (``tei.v1``)."""
