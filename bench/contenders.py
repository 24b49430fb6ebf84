"""Who takes part: names, the workers that they run in, and how each is called."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Literal

from bench.harness.adapter import Call

Kind = Literal["reference", "peer", "baseline", "layer"]

REFERENCE = "st-torch"
CONCURRENCIES = (1, 16, 64)
REQUEST_TEXTS = 32
"""Texts of one request where a list is sent in several: as many as sentence-transformers'
usual batch."""

MAIN_ENVIRONMENT = "main"
PLAIN_EXPORT_ENVIRONMENT = "sentence-transformers-onnx"
"""Where `plain_export` runs: what it calls does not go with transformers 5."""


@dataclasses.dataclass(frozen=True)
class WorkerSpec:
    """A process to start; contenders of the same spec share it, each in its turn.

    Attributes:
        adapter: ``module:Class``.
        flavour: Which of the ways that the adapter knows.
        precision: Graph of the artifact.
        provider: Execution provider.
        environment: Virtual environment, see `environments`.
        plain_export: It runs the graph that `plain_export` makes.
    """

    adapter: str
    flavour: str = ""
    precision: str = "fp32"
    provider: str = "cpu"
    environment: str = MAIN_ENVIRONMENT
    plain_export: bool = False


@dataclasses.dataclass(frozen=True)
class Contender:
    """One line of the tables.

    Attributes:
        name: Unique.
        title: What it is, for the report.
        kind: What it is to the others.
        worker: The process it runs in.
        call: How lists are handed over; `single` workloads send one text a request.
        only_single: Takes part in `single` workloads only.
        standard: Takes part unless others are asked for.
        variant: Precision and provider, for layers.
    """

    name: str
    title: str
    kind: Kind
    worker: WorkerSpec
    call: Call = Call()  # noqa: RUF009 (frozen)
    only_single: bool = False
    standard: bool = True
    variant: str = ""

    def call_for(self, *, single: bool) -> Call:
        """How a workload's texts are handed over."""
        return dataclasses.replace(self.call, request_texts=1) if single else self.call


@dataclasses.dataclass(frozen=True)
class Variant:
    """A precision on an execution provider, written ``int8`` or ``fp16@cuda``."""

    precision: str
    provider: str = "cpu"

    @property
    def label(self) -> str:
        """As it is written."""
        return self.precision if self.provider == "cpu" else f"{self.precision}@{self.provider}"


def parse_variant(text: str) -> Variant:
    """``int8`` -> int8 on cpu, ``fp16@cuda`` -> fp16 on cuda."""
    precision, _, provider = text.partition("@")
    return Variant(precision, provider or "cpu")


def all_contenders(variants: Iterable[Variant]) -> list[Contender]:
    """Everyone, the reference first."""
    layers = [layer for variant in variants for layer in _layers(variant)]
    return [*_peers(), *_baselines(), *layers]


def select(contenders: Sequence[Contender], patterns: Sequence[str]) -> list[Contender]:
    """Those that a pattern names, and always the reference.

    Args:
        contenders: Everyone.
        patterns: Names with wildcards, or ``all``, ``standard``, ``peers``, ``layers``.

    Raises:
        ValueError: A pattern names nobody.
    """
    names: set[str] = {REFERENCE}
    for pattern in patterns:
        found = {entry.name for entry in contenders if _matches(entry, pattern)}
        if not found:
            known = ", ".join(entry.name for entry in contenders)
            raise ValueError(f"no contender is called {pattern!r}; there are {known}")
        names |= found
    return [entry for entry in contenders if entry.name in names]


def _matches(contender: Contender, pattern: str) -> bool:
    groups = {
        "all": True,
        "standard": contender.standard,
        "peers": contender.kind == "peer",
        "layers": contender.kind in ("layer", "baseline"),
    }
    return groups.get(pattern, fnmatch.fnmatchcase(contender.name, pattern))


def _peers() -> list[Contender]:
    torch = WorkerSpec("bench.adapters.sbert:TorchModel")
    cuda = WorkerSpec("bench.adapters.sbert:CudaModel")
    onnx = WorkerSpec(
        "bench.adapters.sbert:OnnxModel", environment=PLAIN_EXPORT_ENVIRONMENT, plain_export=True
    )
    openvino = WorkerSpec(
        "bench.adapters.sbert:OpenvinoModel", environment="sentence-transformers-openvino"
    )
    plain = WorkerSpec("bench.adapters.plain_onnxruntime:PlainOnnxruntime")
    return [
        Contender(REFERENCE, "sentence-transformers, torch fp32, batch 32", "reference", torch),
        Contender(
            "st-cuda", "sentence-transformers, torch fp32 on CUDA", "peer", cuda, standard=False
        ),
        *(_half_on_cuda(batch_size) for batch_size in (32, 256)),
        Contender("st-onnx", "sentence-transformers, onnx backend, batch 32", "peer", onnx),
        Contender(
            "st-openvino", "sentence-transformers, openvino backend, batch 32", "peer", openvino
        ),
        Contender("ort-plain", "onnxruntime by hand, batch 32 padded, in order", "peer", plain),
        _fastembed("repaired", "fastembed", "batch 32, cuts texts where the model does"),
        _fastembed("as-is", "fastembed-as-is", "batch 32, cuts texts where its files say"),
        *(_infinity(flavour, count) for flavour in ("torch", "optimum") for count in CONCURRENCIES),
    ]


def _half_on_cuda(batch_size: int) -> Contender:
    worker = WorkerSpec("bench.adapters.sbert:CudaHalfModel", str(batch_size))
    title = f"sentence-transformers, torch fp16 on CUDA, batch {batch_size}"
    return Contender(f"st-cuda-fp16-b{batch_size}", title, "peer", worker, standard=False)


def _fastembed(flavour: str, name: str, title: str) -> Contender:
    worker = WorkerSpec("bench.adapters.fastembed_model:Fastembed", flavour, plain_export=True)
    return Contender(name, f"fastembed, {title}", "peer", worker, standard=flavour == "repaired")


def _infinity(flavour: str, concurrency: int) -> Contender:
    worker = WorkerSpec(
        "bench.adapters.infinity_engine:Infinity",
        flavour,
        environment="infinity",
        plain_export=flavour == "optimum",
    )
    # A list goes in whole: Infinity sorts it by length and splits it by itself.
    return Contender(
        f"infinity-{flavour}-c{concurrency}",
        f"Infinity, {flavour}, in process, concurrency {concurrency}",
        "peer",
        worker,
        Call(concurrency=concurrency),
        only_single=concurrency > 1,
        standard=concurrency == 1,
    )


def _baselines() -> list[Contender]:
    titles = {
        "inline": "aio server by hand, session.run in the handler",
        "threads": "aio server by hand, session.run in a thread pool",
    }
    return [
        Contender(
            f"aio-{flavour}-c{concurrency}",
            f"{title}, unary, concurrency {concurrency}",
            "baseline",
            WorkerSpec("bench.adapters.served:NaiveServer", flavour),
            Call(REQUEST_TEXTS, concurrency),
            only_single=True,
            standard=concurrency == 16,
        )
        for flavour, title in titles.items()
        for concurrency in CONCURRENCIES
    ]


# Name, what it is, adapter, and whether requests go over one stream.
_PATHS = (
    ("engine", "engine in process", "our_engine:InProcess", False),
    ("grpc-unary", "gRPC, unary", "served:OurServer", False),
    ("grpc-stream", "gRPC, one stream", "served:OurServer", True),
)


def _layers(variant: Variant) -> list[Contender]:
    session = "bare session, texts tokenized and batched beforehand"
    encoder = "encoder, with tokenizer and batching"
    lower = [
        _layer(variant, "session", session, "our_layers:BareSession"),
        _layer(variant, "encoder", encoder, "our_layers:EncoderWithTokenizer"),
    ]
    return lower + [
        dataclasses.replace(
            _layer(variant, f"{name}-c{count}", f"{title}, concurrency {count}", adapter),
            call=Call(REQUEST_TEXTS, count, streamed),
            standard=count == 16 or (name, count) == ("grpc-unary", 1),
        )
        for name, title, adapter, streamed in _PATHS
        for count in CONCURRENCIES
    ]


def _layer(variant: Variant, name: str, title: str, adapter: str) -> Contender:
    worker = WorkerSpec(
        f"bench.adapters.{adapter}",
        precision=variant.precision,
        provider=variant.provider,
    )
    full_title = f"unitvec {variant.label}: {title}"
    return Contender(f"{name}-{variant.label}", full_title, "layer", worker, variant=variant.label)
