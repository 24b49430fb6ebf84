"""The notebook runs from its first cell to its last, and finds what it says it finds."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from sklearn.metrics import pairwise
from traitlets import default

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
MAX_BYTES = 300_000
PNG = b"\x89PNG\r\n\x1a\n"
METRICS = {
    "cosine": pairwise.cosine_similarity,
    "dot": pairwise.linear_kernel,
    "euclidean": pairwise.euclidean_distances,
    "manhattan": pairwise.manhattan_distances,
}


class _Specs(KernelSpecManager):
    """Knows one kernel, which is this interpreter's; installed ones do not matter."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        from ipykernel.kernelspec import get_kernel_dict

        return KernelSpec(**get_kernel_dict())


class _Kernels(AsyncKernelManager):
    @default("kernel_spec_manager")
    def _specs(self) -> KernelSpecManager:
        return _Specs()


@pytest.fixture(scope="module")
def notebook(target: str, tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The notebook as it is after it ran in an empty folder."""
    folder = tmp_path_factory.mktemp("quickstart")
    made = nbformat.read(NOTEBOOK, as_version=4)
    for cell in made.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    made.cells.append(new_code_cell("np.savez('seen.npz', texts=texts, similarity=similarity)"))
    executor = NotebookClient(
        made,
        kernel_manager_class=_Kernels,
        timeout=250,
        startup_timeout=200,
        resources={"metadata": {"path": str(folder)}},
    )
    environment = {"UNITVEC_TARGET": target, "PYTHONPATH": str(EXAMPLES)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        executor.execute()  # Raises where a cell does.
    page = folder / "output" / "quickstart_map.html"
    made.metadata["page"] = page.read_text("utf-8")
    made.metadata["seen"] = dict(np.load(folder / "seen.npz"))
    return made


def test_first_vectors_have_length_one(notebook: NotebookNode) -> None:
    printed = _text(notebook)
    assert "all-MiniLM-L6-v2: 384 dimensions, up to 256 tokens a text" in printed
    assert "(8, 384) float32, 12,288 bytes" in printed
    assert "lengths: [1. 1. 1. 1. 1. 1. 1. 1.]" in printed


def test_similarity_is_that_of_the_server(notebook: NotebookNode) -> None:
    found = re.search(r"largest difference to the server's: (\S+)", _text(notebook))
    assert found is not None
    assert float(found[1]) < 1e-6


def test_heatmap_is_that_of_scikit_learn(notebook: NotebookNode, reference_model: Any) -> None:
    seen = notebook.metadata["seen"]
    vectors = reference_model.encode(seen["texts"].tolist())
    np.testing.assert_allclose(seen["similarity"], METRICS["cosine"](vectors), atol=1e-5)


def test_metrics_are_those_of_scikit_learn(notebook: NotebookNode, reference_model: Any) -> None:
    texts = notebook.metadata["seen"]["texts"].tolist()
    printed = _text(notebook)
    assert re.findall(rf"^ +{' +'.join(METRICS)} +to '(.+)'$", printed, re.MULTILINE) == texts[:1]
    rows = re.findall(r"^((?: +-?\d+\.\d{4}){4})   (.+)$", printed, re.MULTILINE)
    assert sorted(text for _, text in rows) == sorted(texts)
    vectors = reference_model.encode([text for _, text in rows])
    to_first = reference_model.encode(texts[:1])
    expected = np.hstack([metric(vectors, to_first) for metric in METRICS.values()])
    shown = [[float(number) for number in numbers.split()] for numbers, _ in rows]
    np.testing.assert_allclose(shown, expected, atol=5e-4)


def test_search_finds_what_is_asked_for(notebook: NotebookNode) -> None:
    hits = re.findall(r"\?\n  0\.\d{3}  ([^:\n]+): ", _text(notebook))
    assert hits == ["boot", "summer", "hospital"]


def test_it_draws_a_heatmap_and_a_map(notebook: NotebookNode) -> None:
    pictures = _pictures(notebook)
    assert len(pictures) == 2
    assert all(picture.startswith(PNG) for picture in pictures)
    page = notebook.metadata["page"]
    assert "Plotly.newPlot" in page
    assert all(f'"name":"{name}"' in page for name in ("animal", "feeling", "time"))


def test_nothing_is_written_to_stderr(notebook: NotebookNode) -> None:
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


def test_what_is_committed_is_small_and_shows_the_same() -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(committed)
    assert NOTEBOOK.stat().st_size < MAX_BYTES
    assert len(_pictures(committed)) == 2
    assert "lengths: [1. 1. 1. 1. 1. 1. 1. 1.]" in _text(committed)
    numbers = [cell.execution_count for cell in _code(committed)]
    assert numbers == list(range(1, len(numbers) + 1))


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _text(notebook: NotebookNode) -> str:
    outputs = [output for cell in _code(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def _pictures(notebook: NotebookNode) -> list[bytes]:
    datas = [output.get("data", {}) for cell in _code(notebook) for output in cell.outputs]
    return [base64.b64decode(data["image/png"]) for data in datas if "image/png" in data]
