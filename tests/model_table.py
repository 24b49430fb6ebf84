"""The tables of `docs/models.md`: `python -m tests.model_table` measures them and writes them.

Of each architecture, and of each pipeline of modules, a tiny model with random weights is exported
and served by a real server. Its vectors are compared with those of sentence-transformers' own
`encode`, which gets the texts one by one: with each of the model's prompts, as requests of one
text, as one request, and as a stream. A table shows the lowest cosine of all of these.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tests.artifacts import export_artifact, keep, keep_model, keep_pipeline
from tests.models import TinyModel, sample_texts
from tests.pipelines import PIPELINES, encode, prompt_names
from tests.serving import serving
from unitvec_client import Client
from unitvec_export.prove.verification import compare
from unitvec_export.source import Request
from unitvec_server.model.artifact import load_artifact
from unitvec_server.model.kernels import find_kernels
from unitvec_server.model.manifest import Parity

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
PRECISIONS = ("fp32", "int16", "int8")
_SAMPLE = sample_texts()
TEXTS = ["a", "One cat on two mats", "[SEP] a [CLS]b", " ".join(_SAMPLE[:20]), *_SAMPLE[20::24]]
"""Short ones, one that is cut, and one that spells special tokens."""
MAX_SEQ_LENGTH = 64
"""Tokens that the architectures read: several windows of those with local attention."""
Floats = npt.NDArray[np.float32]
Graph = Literal[
    "fused operator", "plain", "plain, nothing to quantize", "fused operator, queries fp32"
]


@dataclasses.dataclass(frozen=True)
class Row:
    """A model to be tried.

    Attributes:
        cells: What the table says of it; its title comes first.
        model: An architecture with random weights, or a name in `PIPELINES`.
        graph: What runs it at int16 and int8, where `unitvec-kernels` is installed.
    """

    cells: tuple[str, ...]
    model: TinyModel | str
    graph: Graph = "plain"

    @property
    def title(self) -> str:
        """Its name in the table."""
        return self.cells[0]

    @property
    def slug(self) -> str:
        """Its name for the server."""
        return "".join(char if char.isalnum() else "-" for char in self.title)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that it is exported and served with."""
        if self.has_fused and find_kernels().library is not None:
            return PRECISIONS
        return ("fp32",) if self.graph == "plain, nothing to quantize" else ("fp32", "int8")

    @property
    def has_fused(self) -> bool:
        """Whether the fused operator runs a part of it."""
        return self.graph.startswith("fused operator")

    def keep_model(self) -> Path:
        """Its folder; not to be written to."""
        return keep_pipeline(self.model) if isinstance(self.model, str) else keep_model(self.model)

    def expect(self, prompt_name: str | None) -> Floats:
        """(n, D): what sentence-transformers makes of each of `TEXTS` alone."""
        # The files of RoBERTa name no length, and longer texts crash it.
        longest = None if isinstance(self.model, str) else self.model.max_seq_length
        folder = self.keep_model()
        return encode(folder, TEXTS, prompt_name, batch_size=1, max_seq_length=longest)

    def keep_artifact(self) -> Path:
        """Its artifact, proved on `TEXTS` alone to save time; not to be written to."""
        model = self.keep_model()

        def build(folder: Path) -> None:
            texts = folder.with_suffix(".jsonl")
            texts.write_text("".join(f"{json.dumps(text)}\n" for text in TEXTS), "utf-8")
            export_artifact(Request(str(model)), folder, self.precisions, texts=texts)

        return keep(f"{model.name}-table-{'-'.join(self.precisions)}", build)


def _architecture(
    name: str, title: str, examples: str = "", *, pooling: str = "mean", graph: Graph = "plain"
) -> Row:
    spec = TinyModel(
        architecture=name,
        pooling=pooling,
        dim=128,
        max_seq_length=MAX_SEQ_LENGTH,
        initializer_range=0.1,
    )
    return Row((title, examples, pooling), spec, graph)


def _fused(name: str, title: str, examples: str, *, pooling: str = "mean") -> Row:
    return _architecture(name, title, examples, pooling=pooling, graph="fused operator")


def _decoder(name: str, title: str, examples: str = "") -> Row:
    return _architecture(name, title, examples, pooling="lasttoken")


ARCHITECTURE_ROWS = (
    _fused("bert", "BERT", "all-MiniLM, BGE, E5"),
    _fused("roberta", "RoBERTa", "all-distilroberta-v1"),
    _fused("xlm-roberta", "XLM-RoBERTa", "multilingual-e5, BGE-M3", pooling="cls"),
    _fused("mpnet", "MPNet", "all-mpnet-base-v2"),
    _fused("distilbert", "DistilBERT", "multi-qa-distilbert"),
    _fused("camembert", "CamemBERT", "sentence-camembert"),
    _architecture("albert", "ALBERT", "paraphrase-albert-small-v2"),
    _architecture("electra", "ELECTRA"),
    _architecture("ernie", "ERNIE"),
    _architecture("deberta", "DeBERTa"),
    _architecture("deberta-v2", "DeBERTa v2 and v3"),
    _architecture("modernbert", "ModernBERT", "modernbert-embed, gte-modernbert", pooling="cls"),
    _architecture("eurobert", "EuroBERT"),
    _architecture("gte", "GTE, as transformers has it", "gte-multilingual-base", pooling="cls"),
    _architecture("nomic-bert", "Nomic BERT, as transformers has it", "nomic-embed-text-v1.5"),
    _architecture("jina-v3", "Jina v3, as transformers has it"),
    _architecture("t5", "T5, its encoder", "sentence-t5, gtr-t5"),
    _architecture("gemma3", "Gemma 3, bidirectional", "EmbeddingGemma"),
    _decoder("qwen2", "Qwen 2", "gte-Qwen2"),
    _decoder("qwen3", "Qwen 3", "Qwen3-Embedding"),
    _decoder("llama", "Llama"),
    _decoder("mistral", "Mistral", "e5-mistral"),
)

_PLAIN = {
    "max",
    "mean_sqrt_len_tokens",
    "weightedmean",
    "lasttoken, padded right",
    "lasttoken, padded left",
    "cls + max + mean",
    "Dense of tokens",
    "mean without prompts",
    "all poolings without prompts",
}
_STATIC = {"StaticEmbedding", "StaticEmbedding, Normalize"}
_MIXED = "Router, static queries"


def _pipeline(name: str) -> Row:
    graph: Graph = "plain" if name in _PLAIN else "fused operator"
    if name in _STATIC:
        graph = "plain, nothing to quantize"
    if name == _MIXED:
        graph = "fused operator, queries fp32"
    return Row((name,), name, graph)


PIPELINE_ROWS = tuple(map(_pipeline, PIPELINES))


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that are measured together, and the part of the page that shows them."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def begin(self) -> str:
        """The line before it."""
        return f"<!-- {self.name} -->\n"

    @property
    def end(self) -> str:
        """The line after it."""
        return f"<!-- end of {self.name} -->\n"


TABLES = (
    Table("architectures", ("architecture", "such as", "pooling here"), ARCHITECTURE_ROWS),
    Table("pipelines", ("pipeline",), PIPELINE_ROWS),
)


def measure(rows: Sequence[Row]) -> Mapping[Row, dict[str, Parity]]:
    """Parity of served vectors, by precision.

    One server has all models of a precision: starting it takes longer than what it is asked.
    """
    with _one_thread():
        expected = {row: _expect(row) for row in rows}
    found: dict[Row, dict[str, Parity]] = {row: {} for row in rows}
    for precision in PRECISIONS:
        chosen = [row for row in rows if precision in row.precisions]
        models = [f"--model={row.slug}={row.keep_artifact()}" for row in chosen]
        flags = ("--precision", precision, "--max-batch-tokens", "512")
        with serving(*models, *flags) as server, Client(server.target) as client:
            for row in chosen:
                served = _ask(client, row)
                found[row][precision] = compare(served, expected[row])
    return found


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices are tiny here: threads of torch would mostly wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _expect(row: Row) -> Floats:
    """(3 * prompts * n, D): what is expected of all that `_ask` asks."""
    by_prompt = [row.expect(name) for name in _prompt_names(row)]
    return np.concatenate([vectors for vectors in by_prompt for _ in range(3)])


def _ask(client: Client, row: Row) -> Floats:
    """(3 * prompts * n, D): `TEXTS` one by one, in one request, and in a stream."""
    vectors: list[Floats] = []
    for name in _prompt_names(row):
        how: dict[str, Any] = {"model": row.slug, "prompt_name": name, "normalize": False}
        vectors += [client.embed([text], **how)[0] for text in TEXTS]
        vectors += [*client.embed(TEXTS, **how)]
        vectors += [item.vector for item in client.embed_stream(TEXTS, **how)]
    return np.stack(vectors)


def _prompt_names(row: Row) -> list[str | None]:
    return prompt_names(load_artifact(row.keep_artifact()).manifest)


def main() -> None:
    """Measures all and writes the tables."""
    page = PAGE.read_text("utf-8")
    for table in TABLES:
        before, _, rest = page.partition(table.begin)
        after = rest.partition(table.end)[2]
        page = f"{before}{table.begin}{''.join(_lines(table))}{table.end}{after}"
    PAGE.write_text(page, "utf-8")


def _lines(table: Table) -> Iterator[str]:
    columns = (*table.columns, "int8 and int16", *PRECISIONS)
    yield _line(columns)
    yield _line(["---"] * len(columns))
    found = measure(table.rows)
    for row in table.rows:
        cosines = [_show(found[row].get(precision)) for precision in PRECISIONS]
        yield _line([*row.cells, row.graph, *cosines])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _show(parity: Parity | None) -> str:
    """Rounded down: 1 is shown where it is 1."""
    return f"{math.floor(parity.cosine_min * 10**6) / 10**6:.6f}" if parity else ""


if __name__ == "__main__":
    main()
