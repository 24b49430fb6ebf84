"""A server of a long-context model keeps to the memory that it states, or refuses to start."""

from __future__ import annotations

import io
import re
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.models import TinyModel
from tests.serving import ServerProcess
from unitvec_client import Client
from unitvec_export.export import STEPS, ExportOptions, export
from unitvec_export.noise import muted
from unitvec_export.progress import Progress
from unitvec_export.source import Request

pytestmark = [
    pytest.mark.deep,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux"),
]

MIB = 2**20
TOKENS = 8192
TOKENIZING_BYTES = 107 * MIB
"""Of each thread that splits a text, from docs/operations/memory.md."""


@pytest.fixture
def long_artifact(tiny_artifact: Callable[[TinyModel], Path]) -> Path:
    """Twelve heads over 8,192 tokens: all scores at once are 3 GiB."""
    spec = TinyModel(architecture="roberta", dim=96, heads=12, max_seq_length=TOKENS)
    return tiny_artifact(spec)


def size_of(process: int, name: str) -> int:
    status = Path(f"/proc/{process}/status").read_text("ascii")
    [kib] = re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kib) * 1024


def stated(line: str) -> tuple[int, int]:
    """Memory at the start, and the most with runs, in bytes."""
    found = re.search(r"memory: (\d+) MiB now; will hold at most (\d+) MiB with 2 runs", line)
    assert found, line
    return int(found[1]) * MIB, int(found[2]) * MIB


def test_it_keeps_to_what_it_states_and_gives_it_back(long_artifact: Path) -> None:
    server = ServerProcess("--model", str(long_artifact), "--workers", "2")
    try:
        now, most = stated(server.wait_for_log("memory: "))
        assert most < 1.5 * 1024 * MIB
        target = server.wait_until_serving()
        texts = [f"{number}" + " a" * TOKENS for number in range(4)]
        with Client(target) as client, ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda text: client.embed_result([text]), texts))
        assert [list(result.tokens) for result in results] == [[TOKENS]] * 4
        pid = server.process.pid
        assert size_of(pid, "VmHWM") <= most + 2 * TOKENIZING_BYTES
        assert size_of(pid, "VmRSS") <= now + 2 * TOKENIZING_BYTES
    finally:
        assert server.stop() == 0


def test_weights_in_a_file_of_their_own_are_foreseen(tmp_path: Path) -> None:
    """A table of 96 MiB, all of which is read by texts, and nearly nothing of it by the warm-up."""
    artifact = export_table(tmp_path, rows=98_304, dim=256)
    server = ServerProcess("--model", str(artifact), "--workers", "2")
    try:
        now, most = stated(server.wait_for_log("memory: "))
        target = server.wait_until_serving()
        pid = server.process.pid
        before = size_of(pid, "VmRSS")
        with Client(target) as client:
            ids = np.arange(98_304).reshape(-1, 1024)
            for part in range(0, len(ids), 16):
                client.embed([" ".join(f"w{n}" for n in row) for row in ids[part : part + 16]])
        assert size_of(pid, "VmRSS") - before > 64 * MIB
        assert now + 80 * MIB < most
        assert size_of(pid, "VmHWM") <= most + 16 * MIB  # of messages and texts
    finally:
        assert server.stop() == 0


def export_table(folder: Path, *, rows: int, dim: int) -> Path:
    """An artifact of static embeddings whose table lies in a file of its own."""
    with muted():
        from sentence_transformers import SentenceTransformer, models
        from tokenizers import Tokenizer
        from tokenizers import models as kinds
        from tokenizers.pre_tokenizers import WhitespaceSplit

        words = {"[UNK]": rows - 1, **{f"w{n}": n for n in range(rows - 1)}}
        tokenizer = Tokenizer(kinds.WordLevel(words, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        static = models.StaticEmbedding(tokenizer, embedding_dim=dim)
        source = folder / "source"
        SentenceTransformer(modules=[static], device="cpu").save(str(source))
    options = ExportOptions(Request(str(source)), folder / "artifact", max_graph_bytes=MIB)
    export(options, Progress(io.StringIO(), steps=STEPS))
    return folder / "artifact"


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit of util-linux")
def test_it_refuses_to_start_where_one_run_does_not_fit(long_artifact: Path) -> None:
    first = ServerProcess("--model", str(long_artifact), "--workers", "2")
    try:
        now, most = stated(first.wait_for_log("memory: "))
        first.wait_until_serving()
        held = size_of(first.process.pid, "VmData")
    finally:
        first.stop()
    limit = held + (most - now) // 4  # half of one run
    bounded = ("prlimit", f"--data={limit}:{resource.RLIM_INFINITY}")
    second = ServerProcess("--model", str(long_artifact), "--workers", "2", wrapper=bounded)
    assert second.wait() == 2
    assert "one run of the longest text takes up to" in second.output[-1]
