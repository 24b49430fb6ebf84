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
from unitvec_export.layout.modules import MODULES_FILE
from unitvec_export.layout.settings import check_settings
from unitvec_export.noise import muted
from unitvec_export.prove.architecture import read_architecture
from unitvec_export.prove.facts import Facts, check_model, read_facts
from unitvec_export.prove.inputs import Input, read_input
from unitvec_export.source import Source
from unitvec_protos.installation import install_command

_BATCH_SIZE = 16
# What a tokenizer may be made of; the settings alone are enough for a few.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "tokenizer_config.json")


class Reference:
    """A loaded sentence-transformers model, fp32 on CPU.

    Args:
        model: A `SentenceTransformer` whose modules have been checked.
        source: Its first module.
        facts: What is known of it.
        notes: Lines that whoever exports it should read.
    """

    def __init__(
        self, model: Any, source: Input, facts: Facts, *, notes: Sequence[str] = ()
    ) -> None:
        self.facts = facts
        self.notes = notes
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
        return _encode(self._model, texts, prompt_name=prompt_name, batch_size=batch_size)

    def token_ids(self, texts: Sequence[str], *, prompt: str = "") -> list[list[int]]:
        """Ids of each text as the model sees them, cut at its longest length.

        Raises:
            InputError: The tokenizer marks token types, which an artifact cannot carry.
        """
        rows: list[list[int]] = []
        for text in texts:
            features = self._model.preprocess([text], prompt=prompt or None)
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
    """Loads a model the way sentence-transformers does, on CPU in fp32.

    Raises:
        InputError: The folder is not whole, or something in it is not supported.
    """
    modules = check_files(source.folder)
    check_settings(source.folder, modules)
    root = source.folder / modules[0].path
    _check_tokenizer_files(root)
    _check_version(root)
    with muted(verbose=verbose):
        model = _load(source.folder)
        if modules[0].name == "Transformer":
            check_complete(model[0].auto_model, root)
        model.float().eval()
        first = read_input(model[0])
        check_model(model)
        dim = _encode(model, ["A cat."]).shape[1]
        with model.truncate_embeddings(None):
            full_dim = _encode(model, ["A cat."]).shape[1]
        facts = read_facts(model, first, dim=dim, full_dim=full_dim)
    notes = () if (source.folder / MODULES_FILE).is_file() else (_describe_default(facts),)
    return Reference(model, first, facts, notes=notes)


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
    prompt_name: str | None = None,
    batch_size: int = _BATCH_SIZE,
) -> npt.NDArray[np.float32]:
    try:
        embeddings: npt.NDArray[np.float32] = model.encode(
            list(texts), prompt_name=prompt_name, batch_size=batch_size, show_progress_bar=False
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
