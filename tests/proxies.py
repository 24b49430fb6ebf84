"""A real nginx with few settings of ours, so that its defaults show."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")

needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx")

_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{}}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    server {{
        listen unix:{folder}/socket http2;
        {settings}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, settings: str) -> Iterator[str]:
    """Runs it, and yields its target for gRPC.

    Args:
        folder: Where its files go; its path must be short enough for a socket's.
        settings: Of its one `server`, in place of nothing.
    """
    assert NGINX is not None
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, settings=settings), "utf-8")
    command = [NGINX, "-p", str(folder), "-c", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait_until_it_listens(process, folder / "socket")
            yield f"unix:{folder}/socket"
        finally:
            process.terminate()


def statuses(folder: Path) -> list[int]:
    """The HTTP statuses that it answered with, once it has ended."""
    lines = (folder / "access.log").read_text("utf-8").splitlines()
    return [int(line.split('"')[2].split()[0]) for line in lines]


def _wait_until_it_listens(process: subprocess.Popen[str], path: Path) -> None:
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())
