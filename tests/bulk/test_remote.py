"""Storages of other machines: an S3 server and a web server, both real and on this machine."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from tests.bulk.test_shards import write
from tests.environments import keep_environment
from unitvec_bulk.errors import JobConflict
from unitvec_bulk.job import Request, find_layout, prepare
from unitvec_bulk.options import Columns
from unitvec_bulk.reading.chunks import ChunkLimits, read_piece
from unitvec_bulk.reading.pieces import find_files, make_pieces
from unitvec_bulk.reading.storage import find_place
from unitvec_bulk.writing.folder import OutputFolder

REQUIREMENTS = Path(__file__).with_name("s3-server.txt")
ROWS = 300
BUCKET = "unitvec"
SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server in a process and environment of its own."""
    python = keep_environment(REQUIREMENTS)
    with subprocess.Popen(
        [str(python), "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fs.FileSystem:
    """Its filesystem, with an empty bucket; processes below this one have its keys."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    found = fs.S3FileSystem(
        endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True
    )
    found.create_dir(BUCKET)
    found.delete_dir_contents(BUCKET)
    return found


def table(start: int, stop: int) -> pa.Table:
    ids = range(start, stop)
    return pa.table({"id": ids, "text": [f"text {n}" for n in ids]})


@pytest.fixture
def corpus(s3: fs.FileSystem, endpoint: str) -> str:
    """Two files of Parquet and one of packed JSON lines in the bucket."""
    pq.write_table(table(0, 100), f"{BUCKET}/corpus/a.parquet", filesystem=s3)
    pq.write_table(table(100, 200), f"{BUCKET}/corpus/x=1/b.parquet", filesystem=s3)
    lines = "".join(json.dumps(row) + "\n" for row in table(200, ROWS).to_pylist())
    with s3.open_output_stream(f"{BUCKET}/corpus/c.jsonl.gz", compression="gzip") as stream:
        stream.write(lines.encode())
    with s3.open_output_stream(f"{BUCKET}/corpus/_SUCCESS") as stream:
        stream.write(b"no data")
    return url("corpus", endpoint)


def url(name: str, endpoint: str) -> str:
    options = f"endpoint_override={endpoint}&scheme=http&region=us-east-1"
    return f"s3://{BUCKET}/{name}?{options}"


def texts_of(*names: str) -> list[str]:
    files = find_files(names)
    layout = find_layout(files, Columns())
    limits = ChunkLimits(64, 2**20)
    chunks = [c for piece in make_pieces(files) for c in read_piece(piece, layout, limits)]
    return [text for chunk in chunks for text in chunk.rows["_text"].to_pylist()]


@pytest.mark.deep
def test_a_bucket_is_read(corpus: str, endpoint: str) -> None:
    assert sorted(texts_of(corpus)) == sorted(f"text {n}" for n in range(ROWS))
    assert texts_of(url("corpus/?.parquet", endpoint)) == [f"text {n}" for n in range(100)]
    assert len(texts_of(url("**/*.parquet", endpoint))) == 200


@pytest.mark.deep
def test_a_bucket_has_one_run_at_a_time(s3: fs.FileSystem, endpoint: str) -> None:
    place = find_place(url("out", endpoint))
    with (
        OutputFolder(place).held(),
        pytest.raises(JobConflict, match="another run writes"),
        OutputFolder(place).held(),
    ):
        pass
    with OutputFolder(place).held() as _:
        pass  # the first one has given it back


@pytest.mark.deep
def test_other_files_of_a_bucket_are_not_touched(s3: fs.FileSystem, endpoint: str) -> None:
    with s3.open_output_stream(f"{BUCKET}/out/thesis.tex") as stream:
        stream.write(b"years of work")
    with (
        pytest.raises(JobConflict, match="holds other files"),
        OutputFolder(find_place(url("out", endpoint))).held(),
    ):
        pass
    assert s3.get_file_info(f"{BUCKET}/out/thesis.tex").size == len("years of work")


@pytest.mark.deep
def test_a_job_goes_on_in_the_bucket(
    s3: fs.FileSystem, corpus: str, endpoint: str, artifact: Path
) -> None:
    """What two chunks wrote before the end of a run is found, and not written again."""
    job = prepare(Request((corpus,), url("out", endpoint), str(artifact), columns=Columns(id="id")))
    write(job, artifact, chunks=2)
    times = {path: s3.get_file_info(path).mtime_ns for path in shards(s3)}
    assert len(times) == 2
    done = write(job, artifact)
    assert [result["is_new"] for result in done if result["rows"]].count(False) == 2
    assert {path: s3.get_file_info(path).mtime_ns for path in times} == times
    tables = [pq.read_table(path, filesystem=s3) for path in shards(s3)]
    ids = [int(key) for found in tables for key in found["id"].to_pylist()]
    assert sorted(ids) == list(range(ROWS))


@pytest.mark.download
@pytest.mark.skipif(
    os.environ.get("UNITVEC_TEST_DOWNLOAD") != "1",
    reason="three starts of Ray; set UNITVEC_TEST_DOWNLOAD=1",
)
def test_a_killed_run_goes_on_in_the_bucket(
    s3: fs.FileSystem, corpus: str, endpoint: str, fused_artifact: Path
) -> None:
    command = [sys.executable, "-m", "unitvec_bulk", corpus, "-o", url("out", endpoint)]
    command += ["--id-column", "id", "--model", str(fused_artifact), "--cpus", "1"]
    command += ["--shard-rows", "10"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while first.poll() is None and len(shards(s3)) < 3:
            time.sleep(0.05)
    finally:
        first.kill()
        first.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert again.returncode == 4  # the lease of the killed run goes on for a while
    assert re.search(r"if it was killed, try again in \d+ s", again.stderr)
    s3.delete_file(f"{BUCKET}/out/_unitvec/lock")  # as if that while were over
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert second.returncode == 0, second.stderr
    tables = [pq.read_table(path, filesystem=s3) for path in shards(s3)]
    ids = [int(key) for found in tables for key in found["id"].to_pylist()]
    assert sorted(ids) == list(range(ROWS))


def shards(s3: fs.FileSystem) -> list[str]:
    infos = s3.get_file_info(fs.FileSelector(f"{BUCKET}/out", allow_not_found=True))
    return [info.path for info in infos if info.base_name.startswith("part-")]


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A web server that gives parts of files, as all do but Python's own."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        part = content[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(content)}")
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of a folder, which holds the same rows in two formats."""
    folder = tmp_path / "web"
    folder.mkdir()
    pq.write_table(table(0, 100), folder / "a.parquet")
    (folder / "b.txt").write_text("".join(f"text {n}\n" for n in range(100)))
    handler = functools.partial(Ranges, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["a.parquet", "b.txt", "b.txt?download=true", "*.txt"])
def test_the_web_is_read(web: str, name: str) -> None:
    pytest.importorskip("aiohttp")
    assert texts_of(f"{web}/{name}") == [f"text {n}" for n in range(100)]
