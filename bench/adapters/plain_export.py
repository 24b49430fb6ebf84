"""The model as sentence-transformers exports it to ONNX: last hidden state, nothing pooled.

`python -m bench.adapters.plain_export MODEL CACHE` makes it, in a process of its own, for the
peers that run such graphs.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

GRAPH = "onnx/model.onnx"


def folder_of(cache: Path) -> Path:
    """Where the exported model is, once it is."""
    return cache / "st-onnx"


def is_exported(cache: Path) -> bool:
    """Whether it is there, whole."""
    return (folder_of(cache) / GRAPH).is_file()


def export(model_folder: Path, cache: Path) -> None:
    """Exports a model into its cache.

    Args:
        model_folder: A sentence-transformers model.
        cache: Folder for what is derived from it.
    """
    from sentence_transformers import SentenceTransformer

    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=cache))
    model = SentenceTransformer(str(model_folder), backend="onnx", model_kwargs={"export": True})
    model.save_pretrained(str(work))
    shutil.rmtree(folder_of(cache), ignore_errors=True)
    work.rename(folder_of(cache))  # whole or not at all


def with_limit(cache: Path, tokens: int) -> Path:
    """A twin of the exported model whose tokenizer files cut texts where the model does.

    Files of sentence-transformers models often name another limit, which libraries that do not
    read `sentence_bert_config.json` go by.

    Args:
        cache: As for `export`.
        tokens: The model's own limit.
    """
    source, twin = folder_of(cache), cache / f"st-onnx-{tokens}"
    if not twin.is_dir():
        work = Path(tempfile.mkdtemp(dir=cache))
        for path in source.iterdir():
            (work / path.name).symlink_to(path)
        config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
        config |= {"model_max_length": tokens, "max_length": tokens}
        (work / "tokenizer_config.json").unlink()
        (work / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        work.rename(twin)
    return twin


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
