"""What becomes of each setting in a model's files: the one table of it.

Each key is followed, has no effect on vectors, or is refused by name where it asks for what an
artifact cannot do. A key that is not in the table is refused too, where sentence-transformers
alone gives the file its meaning. `docs/models.md` shows this table, and a test compares the two.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unitvec_export.errors import InputError
from unitvec_export.layout.modules import MODULES_FILE, Module, read_json, router_file, walk
from unitvec_export.pipeline.dense import ACTIVATIONS

MODULES = MODULES_FILE
MODEL = "config_sentence_transformers.json"
TRANSFORMER = "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"
DENSE = "2_Dense/config.json"
ROUTER = "router_config.json"
LAYER_NORM = "2_LayerNorm/config.json"
NORMALIZE = "2_Normalize/config.json"
TOKENIZER = "tokenizer_config.json"
CONFIG = "config.json"

_FORWARD = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_CUSTOM_CODE = "refused: custom code is not run; take it out if transformers' own code is meant"
_NONE: tuple[Any, ...] = (None, {}, [], "")
_ACTIVATIONS = tuple(
    f"torch.nn.{module}{name}"
    for name in ACTIVATIONS
    for module in ("", "modules.activation.", "modules.linear.")
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A key of a file, or several that are treated alike.

    Attributes:
        file: The file, by the name it usually has.
        keys: The keys.
        outcome: What becomes of it, in a few words.
        only: The values that are accepted; None accepts all.
    """

    file: str
    keys: tuple[str, ...]
    outcome: str
    only: tuple[Any, ...] | None = None


def _row(file: str, keys: str, outcome: str, only: tuple[Any, ...] | None = None) -> Setting:
    return Setting(file, tuple(keys.split()), outcome, only)


SETTINGS = (
    _row(
        MODULES,
        "type",
        "followed: Transformer, StaticEmbedding, Router, Pooling, Dense, LayerNorm, Normalize; "
        "Dropout has no effect; others are refused",
    ),
    _row(MODULES, "path", "followed"),
    _row(MODULES, "idx name kwargs", "no effect: modules run in the order of the list"),
    _row(MODEL, "prompts default_prompt_name", "followed"),
    _row(MODEL, "similarity_fn_name", "followed: `ListModels` tells it"),
    _row(MODEL, "truncate_dim", "followed: the graph gives that many dimensions"),
    _row(
        MODEL,
        "model_type",
        "refused but for SentenceTransformer",
        (None, "SentenceTransformer"),
    ),
    _row(MODEL, "__version__", "no effect"),
    _row(TRANSFORMER, "max_seq_length", "followed, down to what the position table allows"),
    _row(TRANSFORMER, "do_lower_case", "followed"),
    _row(
        TRANSFORMER,
        "model_args model_kwargs tokenizer_args processor_kwargs config_args config_kwargs",
        "followed, but for a dtype: the model is loaded in fp32",
    ),
    _row(
        TRANSFORMER,
        "transformer_task",
        "refused but for feature-extraction",
        (None, "feature-extraction"),
    ),
    _row(
        TRANSFORMER,
        "modality_config",
        "refused but for text to last_hidden_state",
        (None, _FORWARD),
    ),
    _row(
        TRANSFORMER,
        "module_output_name",
        "refused but for token_embeddings",
        (None, "token_embeddings"),
    ),
    _row(TRANSFORMER, "processing_kwargs tokenizer_name_or_path", "refused unless empty", _NONE),
    _row(TRANSFORMER, "unpad_inputs", "no effect: it is for flash attention"),
    _row(
        POOLING,
        "embedding_dimension word_embedding_dimension",
        "no effect: the dimension that was measured holds",
    ),
    _row(
        POOLING,
        "pooling_mode pooling_mode_mean_tokens pooling_mode_cls_token pooling_mode_max_tokens "
        "pooling_mode_mean_sqrt_len_tokens pooling_mode_weightedmean_tokens pooling_mode_lasttoken",
        "followed: each, and several, whose vectors are concatenated",
    ),
    _row(POOLING, "include_prompt", "followed: if false, the tokens of prompts are not pooled"),
    _row(DENSE, "in_features out_features bias", "followed"),
    _row(
        DENSE,
        "activation_function",
        f"followed: {', '.join(ACTIVATIONS)} of torch.nn; others are refused",
        _ACTIVATIONS,
    ),
    _row(
        DENSE,
        "module_input_name module_output_name",
        "followed: both sentence_embedding or both token_embeddings; others are refused",
        (None, "sentence_embedding", "token_embeddings"),
    ),
    _row(
        ROUTER,
        "types structure parameters",
        "followed: a prompt's name chooses the route, as a task does",
    ),
    _row(LAYER_NORM, "dimension", "followed"),
    _row(
        NORMALIZE,
        "module_input_name module_output_name",
        "refused but for sentence_embedding",
        (None, "sentence_embedding"),
    ),
    _row(TOKENIZER, "truncation_side", "followed where a request does not name a side"),
    _row(TOKENIZER, "model_max_length", "followed where nothing else names a longest text"),
    _row(
        TOKENIZER,
        "padding_side",
        "no effect: a model whose vectors depend on padding is refused",
    ),
    _row(TOKENIZER, "split_special_tokens", "followed: the manifest carries it"),
    _row(TOKENIZER, "auto_map", _CUSTOM_CODE, _NONE),
    _row(TOKENIZER, "chat_template", "no effect on plain texts"),
    _row(
        TOKENIZER,
        "tokenizer_class do_lower_case strip_accents tokenize_chinese_chars added_tokens_decoder "
        "additional_special_tokens extra_special_tokens cls_token sep_token pad_token unk_token "
        "mask_token bos_token eos_token add_prefix_space model_input_names",
        "followed by way of `tokenizer.json`, as any other key: all token ids of the sample, "
        "and of texts that hold the special tokens, must be the model's own",
    ),
    _row(CONFIG, "auto_map", _CUSTOM_CODE, _NONE),
    _row(CONFIG, "quantization_config", "refused: export the unquantized model", _NONE),
    _row(
        CONFIG,
        "model_type pad_token_id max_position_embeddings type_vocab_size vocab_size",
        "followed by way of the transformers model, as any other key: the graph is traced from it",
    ),
)

# Files in which a key means something only to another library, which may have many more.
_OPEN = (TOKENIZER, CONFIG)


def check_settings(folder: Path, modules: Sequence[Module]) -> None:
    """Holds all files of a model against the table.

    Args:
        folder: The model.
        modules: Its modules.

    Raises:
        InputError: A file is damaged, or asks for what is not supported.
    """
    listed = folder / MODULES
    for entry in read_json(listed) if listed.is_file() else ():
        _check(listed, MODULES, entry)
    for name, path in _files(folder, modules):
        content = read_json(path) if path.is_file() else {}
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged: it holds no JSON object")
        _check(path, name, content)


_CONFIGS = {"Pooling": POOLING, "Dense": DENSE, "LayerNorm": LAYER_NORM, "Normalize": NORMALIZE}


def _files(folder: Path, modules: Sequence[Module]) -> Iterator[tuple[str, Path]]:
    yield MODEL, folder / MODEL
    for module in modules:
        if module.routes:
            yield ROUTER, router_file(folder / module.path)
    for module in walk(modules):
        root = folder / module.path
        if module.name == "Transformer":
            yield TRANSFORMER, _transformer_file(root)
            yield TOKENIZER, root / TOKENIZER
            yield CONFIG, root / CONFIG
        elif module.name in _CONFIGS:
            yield _CONFIGS[module.name], root / "config.json"


def _transformer_file(root: Path) -> Path:
    return next(iter(sorted(root.glob("sentence_*_config.json"))), root / TRANSFORMER)


def _check(path: Path, file: str, content: Mapping[str, Any]) -> None:
    known = {key: row for row in SETTINGS if row.file == file for key in row.keys}
    for key, value in content.items():
        setting = known.get(key)
        if setting is None and file not in _OPEN:
            raise InputError(
                f"{path}: {key} is not known here; remove it if the model does without it"
            )
        if setting is not None and setting.only is not None and value not in setting.only:
            shown = json.dumps(value)
            raise InputError(
                f"{path}: {key} = {shown if len(shown) < 60 else shown[:60] + '...'} is not "
                f"supported ({setting.outcome})"
            )
