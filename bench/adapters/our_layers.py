"""unitvec's lower layers, called directly: the session, and the encoder with its tokenizer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from bench.harness.adapter import Adapter, Call, Outcome, Pass, Setup, Vectors
from unitvec_server.config import ServerConfig
from unitvec_server.engine.loading import batch_limits, load_model
from unitvec_server.flags import parse_config
from unitvec_server.policy.batching import Batcher
from unitvec_server.policy.items import Item

Rows = list[npt.NDArray[np.int64]]

_TOKENIZE_CHUNK_TEXTS = 128
PACKAGES = (
    "unitvec",
    "onnxruntime",
    "onnxruntime-gpu",
    "tokenizers",
    "grpcio",
    "protobuf",
)


def server_config(setup: Setup) -> ServerConfig:
    """The configuration that the server itself would run on."""
    return parse_config(server_flags(setup), {})


def server_flags(setup: Setup) -> list[str]:
    """The same as flags."""
    flags = ["--model", setup.artifact, "--precision", setup.precision]
    flags += ["--provider", setup.provider]
    if setup.provider == "cuda":
        return flags  # one worker, and runs as wide as the device likes
    # One width for all layers: left to itself, each process would measure its own.
    return [*flags, "--workers", str(setup.threads), "--max-batch-tokens", "256"]


class _Layer(Adapter):
    """Opens the graph and the tokenizer as the server does."""

    packages = PACKAGES

    def __init__(self, setup: Setup) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the server sets it
        config = server_config(setup)
        loaded = load_model(config.model[0], config)
        self.token_limit = loaded.model.manifest.max_seq_length
        self._tokenizer = loaded.model.tokenizer
        self._encoder = loaded.encoder
        self._limits = batch_limits(loaded)
        self._threads = setup.threads
        self._pool = ThreadPoolExecutor(setup.threads)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()

    def tokenize(self, texts: Sequence[str]) -> Rows:
        """Token ids of n texts, chunks of them side by side."""
        starts = range(0, len(texts), _TOKENIZE_CHUNK_TEXTS)
        chunks = [texts[start : start + _TOKENIZE_CHUNK_TEXTS] for start in starts]
        return [
            encoding.input_ids
            for encodings in self._pool.map(self._tokenizer.encode, chunks)
            for encoding in encodings
        ]

    def plan(self, rows: Rows) -> list[list[int]]:
        """Indices of the rows of each batch, as the server's policy forms them."""
        queue = Batcher(self._limits)
        queue.add(
            [Item(max(1, len(row)), "bench", payload=index) for index, row in enumerate(rows)]
        )
        batches: list[list[int]] = []
        # At first all workers are free; from then on one at a time comes back for more.
        while batch := queue.next_batch(
            now_s=0.0, free_workers=max(1, self._threads - len(batches))
        ).batch:
            batches.append([_index(item) for item in batch])
        return batches

    def run(self, rows: Rows, batches: Iterable[list[int]]) -> Vectors:
        """Runs the batches, one on each thread at a time."""
        vectors = np.empty((len(rows), self._encoder.dim), np.float32)
        waiting = iter(list(batches))  # a list's iterator may be shared by threads
        tasks = [
            self._pool.submit(self._take_turns, waiting, rows, vectors)
            for _ in range(self._threads)
        ]
        for task in tasks:
            task.result()
        return vectors

    def _take_turns(self, waiting: Iterator[list[int]], rows: Rows, vectors: Vectors) -> None:
        for batch in waiting:
            vectors[batch] = self._encoder.encode([rows[index] for index in batch])

    def one_by_one(self, count: int, embed: Callable[[int], Vectors]) -> Outcome:
        """Lone texts, each after the other, on the calling thread."""
        vectors, latencies_ns = [], []
        for index in range(count):
            started_ns = time.perf_counter_ns()
            vectors.append(embed(index))
            latencies_ns.append(time.perf_counter_ns() - started_ns)
        return Outcome(np.concatenate(vectors), latencies_ns)


class BareSession(_Layer):
    """Session runs alone: texts are tokenized, and batches planned, beforehand."""

    def prepare(self, texts: Sequence[str], call: Call) -> Pass:
        """Tokenizes and plans."""
        rows = self.tokenize(texts)
        if call.request_texts == 1:
            return lambda: self.one_by_one(len(rows), lambda i: self._encoder.encode([rows[i]]))
        batches = self.plan(rows)
        return lambda: _timed(lambda: self.run(rows, batches))


class EncoderWithTokenizer(_Layer):
    """Tokenizer, batching policy and encoder on threads; no event loop, no futures."""

    def prepare(self, texts: Sequence[str], call: Call) -> Pass:
        """Prepares nothing: all of it is timed."""
        if call.request_texts == 1:
            return lambda: self.one_by_one(len(texts), lambda i: self._embed_one(texts[i]))
        return lambda: _timed(lambda: self._embed(texts))

    def _embed(self, texts: Sequence[str]) -> Vectors:
        rows = self.tokenize(texts)
        return self.run(rows, self.plan(rows))

    def _embed_one(self, text: str) -> Vectors:
        return self._encoder.encode([self._tokenizer.encode([text])[0].input_ids])


def _timed(embed: Callable[[], Vectors]) -> Outcome:
    started_ns = time.perf_counter_ns()
    vectors = embed()
    return Outcome(vectors, [time.perf_counter_ns() - started_ns])


def _index(item: Item) -> int:
    assert isinstance(item.payload, int)
    return item.payload
