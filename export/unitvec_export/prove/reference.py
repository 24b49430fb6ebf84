"""The model as sentence-transformers runs it: what an artifact must reproduce."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unitvec_export.errors import InputError, first_line
from unitvec_export.layout.checkpoint import check_complete
from unitvec_export.layout.files import check_files
from unitvec_export.layout.modules import INPUTS, MODULES_FILE, Module, walk
from unitvec_export.layout.settings import check_settings
from unitvec_export.noise import muted
from unitvec_export.prove.architecture import read_architecture
from unitvec_export.prove.facts import Facts, check_model, read_facts
from unitvec_export.prove.inputs import Input, read_input
from unitvec_export.prove.routes import Route, read_routes
from unitvec_export.source import Source
from unitvec_protos.installation import install_command

_BATCH_SIZE = 16
# What a tokenizer may be made of; the settings alone are enough for a few.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tokenizer_config.json")


class Reference:
    """A loaded sentence-transformers model, fp32 on CPU.

    Args:
        model: A `SentenceTransformer` whose modules have been checked.
        route: What its texts go through.
        source: The first module of that.
        facts: What is known of it.

    Attributes:
        notes: Lines that whoever exports it should read.
    """

    notes: Sequence[str] = ()

    def __init__(self, model: Any, route: Route, source: Input, facts: Facts) -> None:
        self.facts = facts
        self.route = route
        self._model = model
        self._source = source

    @property
    def transformer(self) -> Any:
        """The `transformers` model inside, or None if it is a table of static embeddings."""
        return getattr(self._source.module, "auto_model", None)

    @property
    def static_embeddings(self) -> npt.NDArray[np.float32]:
        """(vocabulary, H) float32: the table, where there is no `transformer`."""
        table: npt.NDArray[np.float32] = self._source.module.embedding.weight.detach().numpy()
        return table

    @property
    def config(self) -> Mapping[str, Any]:
        """Its `config.json`, as transformers completes it."""
        if self.transformer is None:
            return {"model_type": "StaticEmbedding"}
        config: Mapping[str, Any] = self.transformer.config.to_dict()
        return config

    @property
    def architecture(self) -> Mapping[str, Any]:
        """Its kind, and those of its settings that are not the defaults of its kind."""
        if self.transformer is None:
            return self.config
        return read_architecture(self.transformer.config)

    @property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """Weights of the first module, by its own names."""
        first = self._source.module if self.transformer is None else self.transformer
        return _Arrays(first.state_dict())

    @property
    def special_tokens(self) -> list[str]:
        """The tokens that its tokenizer treats as one where a text holds them."""
        return self._source.special_tokens

    def tokenizer_json(self) -> str:
        """The fast tokenizer as text, lower-casing included, without padding and truncation."""
        return self._source.tokenizer_json

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        batch_size: int = _BATCH_SIZE,
    ) -> npt.NDArray[np.float32]:
        """`SentenceTransformer.encode` with its default options.

        Args:
            texts: n texts.
            prompt_name: One of the model's prompts; None means the model's default.
            batch_size: Texts that are padded to one length.

        Returns:
            (n, D) float32.

        Raises:
            InputError: The model itself fails, or gives what is not a number.
        """
        facts = self.facts
        prompt = facts.default_prompt if prompt_name is None else facts.prompts[prompt_name]
        return _encode(
            self._model, texts, prompt=prompt, task=self.route.task, batch_size=batch_size
        )

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text as the model sees them, cut at its longest length.

        Raises:
            InputError: The tokenizer marks token types, which an artifact cannot carry.
        """
        rows: list[list[int]] = []
        for text in texts:
            features = self._source.module.preprocess([text], prompt=prompt or None)
            types = features.get("token_type_ids")
            if types is not None and bool(types.any()):
                raise InputError("the tokenizer gives token_type_ids other than 0: not supported")
            # A StaticEmbedding puts the tokens of all texts into one row.
            rows.append(features["input_ids"].flatten().tolist())
        return rows


class _Arrays(Mapping[str, Any]):
    """A state dict of torch whose tensors become arrays when they are asked for."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Any:
        return self._state[name].detach().numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def load_reference(source: Source, *, verbose: bool = False) -> Reference:
    """Loads the first route of a model, as `load_references` does."""
    return load_references(source, verbose=verbose)[0]


def load_references(source: Source, *, verbose: bool = False) -> list[Reference]:
    """Loads a model the way sentence-transformers does, on CPU in fp32.

    Returns:
        Its routes, the default first; one for most models.

    Raises:
        InputError: The folder is not whole, or something in it is not supported.
    """
    modules = check_files(source.folder)
    check_settings(source.folder, modules)
    for module in walk(modules):
        if module.name in INPUTS:
            _check_tokenizer_files(source.folder / module.path)
        if module.name == "Transformer":
            _check_version(source.folder / module.path)
    with muted(verbose=verbose):
        model = _load(source.folder)
        _check_weights(model, modules, source.folder)
        model.float().eval()
        check_model(model)
        routes = read_routes(model)
        references = [_read(model, routes if each is routes[0] else [each]) for each in routes]
    _check_dims(references)
    if not (source.folder / MODULES_FILE).is_file():
        references[0].notes = (_describe_default(references[0].facts),)
    return references


def _check_weights(model: Any, modules: Sequence[Module], folder: Path) -> None:
    """Makes sure that each tensor of each Transformer comes from its checkpoint."""
    loaded = [
        part
        for module in model
        for route in getattr(module, "sub_modules", {"": [module]}).values()
        for part in route
    ]
    for module, part in zip(walk(modules), loaded, strict=False):
        if module.name == "Transformer":
            check_complete(part.auto_model, folder / module.path)


def _read(model: Any, routes: Sequence[Route]) -> Reference:
    """The first of some routes."""
    route = routes[0]
    first = read_input(route.modules[0])
    dim = _encode(model, ["A cat."], task=route.task).shape[1]
    with model.truncate_embeddings(None):
        full_dim = _encode(model, ["A cat."], task=route.task).shape[1]
    facts = read_facts(model, routes, first, dim=dim, full_dim=full_dim)
    return Reference(model, route, first, facts)


def _check_dims(references: Sequence[Reference]) -> None:
    dims = {reference.facts.dim for reference in references}
    if len(dims) > 1:
        raise InputError(
            f"its routes give vectors of {' and '.join(map(str, sorted(dims)))} dimensions, which "
            "cannot be compared: not supported"
        )


def _describe_default(facts: Facts) -> str:
    return f"no {MODULES_FILE}: {facts.pooling} pooling, as sentence-transformers has it"


def _load(folder: Path) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    except Exception as exc:  # every library raises its own for a damaged file
        raise InputError(f"{folder} cannot be loaded: {_explain(exc, folder)}") from exc


def _explain(exc: Exception, folder: Path) -> str:
    """The cause in the user's words, where the library's own do not name it."""
    if type(exc).__name__ == "SafetensorError":
        return f"its weights are damaged ({first_line(exc)})"
    if "ignore_mismatched_sizes" in str(exc):
        return "its weights have other shapes than config.json asks for"
    if "processing class" not in str(exc):
        return first_line(exc)
    from transformers import AutoTokenizer

    try:
        AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as cause:  # noqa: BLE001 - as above
        return f"its tokenizer cannot be loaded ({first_line(cause)})"
    return f"its tokenizer cannot be loaded ({first_line(exc)})"


def _check_version(root: Path) -> None:
    """Transformers 4 passes over settings of transformers 5, such as the base of positions."""
    path = root / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    written = str(config.get("transformers_version", ""))
    installed = importlib.metadata.version("transformers")
    if written.startswith("5.") and not installed.startswith("5."):
        raise InputError(
            f"{root} was saved by transformers {written}, which the installed {installed} cannot "
            f"read: {install_command('export')}"
        )


def _check_tokenizer_files(root: Path) -> None:
    if not any(True for name in _TOKENIZER_FILES for _ in root.glob(name)):
        raise InputError(f"{root} has no tokenizer: none of {', '.join(_TOKENIZER_FILES)}")
    pieces = sorted(root.glob("*.model"))
    alone = pieces and not (root / "tokenizer.json").is_file()
    if alone and importlib.util.find_spec("sentencepiece") is None:
        raise InputError(
            f"{root} has no tokenizer.json, and to read {pieces[0].name} a package is missing: "
            "pip install 'sentencepiece==0.2.1'"
        )


def _encode(
    model: Any,
    texts: Sequence[str],
    *,
    prompt: str = "",
    task: str | None = None,
    batch_size: int = _BATCH_SIZE,
) -> npt.NDArray[np.float32]:
    try:
        embeddings: npt.NDArray[np.float32] = model.encode(
            list(texts),
            prompt=prompt,
            batch_size=batch_size,
            show_progress_bar=False,
            **({} if task is None else {"task": task}),
        )
    except Exception as exc:  # torch and the tokenizer raise what they like
        raise InputError(f"the model itself fails on a text: {first_line(exc)}") from exc
    if not np.isfinite(embeddings).all():
        raise InputError(f"the model itself gives vectors that are not finite{_where(model)}")
    return embeddings


def _where(model: Any) -> str:
    for name, tensor in getattr(model[0], "auto_model", model[0]).named_parameters():
        if not bool(tensor.isfinite().all()):
            return f": so are its weights, such as {name}"
    return ""
