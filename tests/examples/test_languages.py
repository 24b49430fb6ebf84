"""The Go and Java snippets: the docs quote them, and Java's runs where its tools are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unitvec_client import Client

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
JARS = Path("/usr/share/java")
"""Where Debian's libgrpc-java and what it needs lie."""
REMOTES = {
    "buf.build/protocolbuffers/go": "local: protoc-gen-go",
    "buf.build/grpc/go": "local: protoc-gen-go-grpc",
    "buf.build/protocolbuffers/java": "protoc_builtin: java",
    "buf.build/grpc/java": "local: grpc_java_plugin",
}
"""What to run in place of a remote plugin, which cannot be reached from every machine."""

NEEDS = {
    "java": ("java", "javac", "protoc", "grpc_java_plugin"),
    "go": ("protoc-gen-go", "protoc-gen-go-grpc"),
}


@pytest.mark.parametrize(
    ("language", "file"),
    [
        ("go", "go/main.go"),
        ("java", "java/Embed.java"),
        ("yaml", "buf.gen.yaml"),
    ],
)
def test_the_docs_quote_the_files(language: str, file: str) -> None:
    docs = (ROOT / "docs" / "examples" / "languages.md").read_text("utf-8")
    assert f"```{language}\n{(EXAMPLES / file).read_text('utf-8')}```\n" in docs


def test_template_makes_stubs_of_go(tmp_path: Path) -> None:
    _generate(tmp_path, "go")
    folder = tmp_path / "gen" / "go" / "unitvec" / "v1"
    for name in ("embedding.pb.go", "embedding_grpc.pb.go"):
        assert "package unitvecv1\n" in (folder / name).read_text("utf-8")
    snippet = (EXAMPLES / "go" / "main.go").read_text("utf-8")
    assert 'pb "example.com/embed/gen/go/unitvec/v1"' in snippet


def test_java_prints_the_vectors_of_the_python_client(
    tmp_path: Path, target: str, client: Client
) -> None:
    if not (JARS / "grpc-netty.jar").exists():
        pytest.skip("no grpc-netty.jar in /usr/share/java")
    _generate(tmp_path, "java")
    classes = f"{tmp_path}:{JARS}/*"
    sources = [*(tmp_path / "gen" / "java").rglob("*.java"), EXAMPLES / "java" / "Embed.java"]
    compiled = _run("javac", "-nowarn", "-cp", classes, "-d", str(tmp_path), *map(str, sources))
    assert compiled.returncode == 0, compiled.stderr

    texts = ["a cat on a mat", "bank loan"]
    expected = client.embed(texts)  # The server's cache has them from here on, bit for bit.
    done = _run("java", "-cp", classes, "Embed", target, *texts)
    assert done.returncode == 0, done.stderr
    rows = [np.array(json.loads(line), np.float32) for line in done.stdout.splitlines()]
    np.testing.assert_array_equal(rows, expected)

    refused = _run("java", "-cp", classes, "Embed", target, *["a text"] * 2049)
    assert refused.returncode == 1
    assert "INVALID_ARGUMENT TOO_MANY_TEXTS: " in refused.stderr
    assert "(field texts, " in refused.stderr


def _generate(folder: Path, language: str) -> None:
    """Makes the stubs as `buf generate` would, with the plugins of this machine."""
    missing = [tool for tool in NEEDS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    template = (EXAMPLES / "buf.gen.yaml").read_text("utf-8")
    before, *plugins = template.split("  - remote: ")
    for plugin in plugins:
        remote, rest = plugin.split("\n", 1)
        if f"gen/{language}\n" in rest:
            before += f"  - {REMOTES[remote]}\n{rest}"
    (folder / "buf.gen.yaml").write_text(before, "utf-8")
    buf = str(Path(sys.executable).with_name("buf"))
    done = _run(buf, "generate", "--template", str(folder / "buf.gen.yaml"), "-o", str(folder))
    assert done.returncode == 0, done.stderr


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "JAVA_TOOL_OPTIONS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
