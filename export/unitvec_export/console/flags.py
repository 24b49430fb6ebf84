"""The flags of `unitvec-export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from unitvec_export.graph.opsets import DEFAULT_OPSET, OPSETS
from unitvec_export.source import DEFAULT_MODEL_ID
from unitvec_server.model.manifest import PRECISIONS

_DESCRIPTION = """\
Exports a sentence-transformers model to a folder that unitvec-serve serves: ONNX graphs with
pooling and normalization inside, the tokenizer, and a manifest with the measured parity.
It ends by comparing the result with sentence-transformers on bundled texts; an fp32 graph
that is not equal fails the export and leaves nothing behind."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of `unitvec-export`."""
    parser = argparse.ArgumentParser(prog="unitvec-export", description=_DESCRIPTION)
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL", help=f"hub id or folder (default: {DEFAULT_MODEL_ID})")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="artifact folder (default: artifacts/<model's name>)",
    )
    add(
        "--precision",
        type=_precisions,
        metavar="P,...",
        help="graphs to write: fp32, int16, bf16, int8, fp16 (for CUDA); "
        "fp32 is always among them (default: fp32 and, with unitvec-kernels, int16)",
    )
    add(
        "--without-fp32",
        action="store_true",
        help="prove the fp32 graph and leave it out: where space is short, and the fused "
        "operator, which int16 needs, is sure to be there",
    )
    add(
        "--opset",
        type=int,
        choices=OPSETS,
        default=DEFAULT_OPSET,
        metavar="N",
        help=f"ONNX operator set, {OPSETS[0]} to {OPSETS[-1]} (default: {DEFAULT_OPSET})",
    )
    add(
        "--without-torch",
        action="store_true",
        help="build the packaged model from its files, to the same bits, and compare it with "
        "stored vectors of sentence-transformers (default where torch is not installed)",
    )
    add("--revision", metavar="R", help="branch, tag or commit of a hub model")
    add("--offline", action="store_true", help="use only what is on this machine")
    add(
        "--from-onnx",
        metavar="FILE",
        help="take the graph of this ONNX file, here or in MODEL, instead of tracing; pooling and "
        "normalization are added as MODEL's files say. It is compared with sentence-transformers "
        "where that is installed, else with --vectors",
    )
    add("--list", action="store_true", help="show exported models, those in the cache and packages")
    add(
        "--verify",
        type=Path,
        metavar="DIR",
        help="measure the parity of an artifact again, on this machine: with sentence-transformers "
        "installed against its model (MODEL, where another than its manifest names), else "
        "against the vectors stored in it",
    )
    add(
        "--texts",
        type=Path,
        metavar="FILE",
        help="texts of your own to compare on (lines, or .jsonl)",
    )
    add("--vectors", type=Path, metavar="FILE", help="the model's own vectors of --texts (.npy)")
    add("--verbose", action="store_true", help="show what the libraries log")
    return parser


def _precisions(text: str) -> tuple[str, ...]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    unknown = sorted(names - set(PRECISIONS))
    if unknown or not names:
        what = f"unknown precision {unknown[0]!r}" if unknown else "no precision"
        raise argparse.ArgumentTypeError(f"{what}; known: {', '.join(PRECISIONS)}")
    return tuple(name for name in PRECISIONS if name in names | {"fp32"})
