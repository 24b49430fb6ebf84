"""What the graph and the server must know of a loaded model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from unitvec_export.errors import InputError
from unitvec_export.pipeline.norms import Cut, Normalize
from unitvec_export.pipeline.pooling import Pooling
from unitvec_export.pipeline.reading import read_steps
from unitvec_export.pipeline.tail import Step
from unitvec_export.prove.inputs import Input
from unitvec_export.prove.routes import Route, folders_by_prompt
from unitvec_server.model.manifest import SimilarityFunction, TruncationSide

_FUNCTIONS: Mapping[str, SimilarityFunction] = {
    "cosine": "cosine",
    "dot": "dot",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the graph and the server must know of a model.

    Attributes:
        dim: Dimension D of the embeddings, as measured.
        max_seq_length: Longest text in tokens, special tokens included.
        steps: What becomes of token vectors, up to embeddings.
        pad_token_id: Token id that fills up shorter rows.
        prompts: Prompt texts by name; none where all are empty.
        default_prompt_name: Prompt applied when none is named, or None.
        similarity_fn_name: How its vectors are compared.
        truncation_side: Side of a too long text that is cut off.
        split_special_tokens: Whether the name of a special token inside a text is plain text.
        unpooled_tokens: Number of first tokens that pooling leaves out, by the name of the prompt;
            none where prompts count.
        routes: Folder of the artifact that embeds texts with a prompt, by the name of the prompt,
            as in the manifest.
    """

    dim: int
    max_seq_length: int
    steps: tuple[Step, ...]
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    similarity_fn_name: SimilarityFunction = "cosine"
    truncation_side: TruncationSide = "right"
    split_special_tokens: bool = False
    unpooled_tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)
    routes: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def pooling(self) -> str:
        """How token vectors become one: modes of `pipeline.pooling`, joined by +."""
        return "+".join(next(step.modes for step in self.steps if isinstance(step, Pooling)))

    @property
    def normalized(self) -> bool:
        """Whether the steps end in L2 normalization."""
        return isinstance(self.steps[-1], Normalize)

    @property
    def default_prompt(self) -> str:
        """Text put before each text when no prompt is named; may be empty."""
        return self.prompts.get(self.default_prompt_name or "", "")


def read_facts(
    model: Any, routes: Sequence[Route], source: Input, *, dim: int, full_dim: int
) -> Facts:
    """Reads the facts of the first of some routes.

    Args:
        model: A `SentenceTransformer` that passed `check_model`.
        routes: A route, and those that take some of its prompts in its place.
        source: Its first module.
        dim: Dimension of the vectors that it gives.
        full_dim: Dimension before `truncate_dim`.

    Raises:
        InputError: A module does what no graph of ours can.
    """
    route = routes[0]
    prompts = {name: text for each in routes for name, text in each.prompts.items()}
    default = model.default_prompt_name if route.task is None else None
    steps = _read_steps(route.modules, dim=dim, full_dim=full_dim)
    leaves_out = any(isinstance(step, Pooling) and not step.include_prompt for step in steps)
    return Facts(
        dim=dim,
        max_seq_length=source.max_seq_length,
        steps=steps,
        pad_token_id=source.pad_token_id,
        prompts=prompts,
        default_prompt_name=default if prompts.get(default or "") else None,
        similarity_fn_name=_FUNCTIONS[model.similarity_fn_name],
        truncation_side=source.truncation_side,
        split_special_tokens=source.split_special_tokens,
        unpooled_tokens=_count_unpooled(source, prompts) if leaves_out else {},
        routes={} if route.folder else folders_by_prompt(routes),
    )


def _count_unpooled(source: Input, prompts: Mapping[str, str]) -> dict[str, int]:
    """Tokens of each prompt as sentence-transformers counts them: what splitting it alone gives."""
    return {
        name: int(source.module.preprocess(["a"], prompt=prompt)["prompt_length"])
        for name, prompt in prompts.items()
        if prompt
    }


def _read_steps(modules: Sequence[Any], *, dim: int, full_dim: int) -> tuple[Step, ...]:
    first, *others = modules
    # The embedding of a bag of tokens is the mean over them.
    bag = (Pooling(("mean",)),) if type(first).__name__ == "StaticEmbedding" else ()
    last = (Cut(dim),) if dim < full_dim else ()
    return (*bag, *read_steps(others), *last)


def check_model(model: Any) -> None:
    """Refuses what sentence-transformers loads, but a graph cannot do.

    Raises:
        InputError: The reason, in one line.
    """
    if model.truncate_dim is not None and model.truncate_dim < 1:
        raise InputError(f"truncate_dim is {model.truncate_dim}: at least 1 is needed")
