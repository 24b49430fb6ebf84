"""Exports without torch: a model read from its files, a graph and vectors that were stored before.

    all-MiniLM-L6-v2/graph.onnx     its traced graph, where weights are names of tensors
    all-MiniLM-L6-v2/vectors.npy    what sentence-transformers made of the bundled texts, (n, D)
    all-MiniLM-L6-v2/record.json    which checkpoint, texts and token ids they belong to

`python -m unitvec_export.stored.rewrite` makes them again, with torch.
"""
