"""Tiny sentence-transformers models with random weights and real tokenizers, built on the spot.

Their vectors mean nothing but differ from text to text, so a wrong pooling, prompt, mask or
truncation shows. Building one takes a fraction of a second once torch is imported.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.architectures import ARCHITECTURES, BYTE_LEVEL, VOCABULARY_SIZE
from unitvec_export.noise import muted

_BERT_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclasses.dataclass(frozen=True)
class TinyModel:
    """What a tiny model is like.

    Attributes:
        architecture: One of `ARCHITECTURES`. roberta names no longest text of its own.
        pooling: Any pooling mode of sentence-transformers, or several.
        normalize: Whether it ends in a Normalize module.
        prompts: (name, text) pairs.
        default_prompt_name: Prompt applied when none is named.
        dim: Hidden size and dimension of the embeddings.
        max_seq_length: Longest text in tokens.
        lower_case: Whether sentence-transformers lower-cases for a cased tokenizer.
        heads: Heads of attention.
        initializer_range: Spread of the weights. Far above the usual 0.02: vectors of different
            texts must point in different directions.
        token_types: Rows of BERT's table of token types.
        special_tokens: Whether the tokenizer puts special tokens around a text.
    """

    architecture: str = "bert"
    pooling: str | tuple[str, ...] = "mean"
    normalize: bool = True
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt_name: str | None = None
    dim: int = 32
    max_seq_length: int = 64
    lower_case: bool = False
    heads: int = 4
    initializer_range: float = 0.5
    token_types: int = 2
    special_tokens: bool = True


FUSED_BERT = TinyModel(dim=128, initializer_range=0.1)
"""One that the fused operator runs, with weights about as large as trained ones: much larger ones
make attention jump at a last bit."""


def build_tiny_model(folder: Path, spec: TinyModel) -> Path:
    """Writes a model into `folder` as `SentenceTransformer.save` does.

    Returns:
        `folder`.
    """
    with muted():
        parts = build_parts(folder.with_name(f"{folder.name}-parts"), spec)
        _assemble(parts, spec).save(str(folder), create_model_card=False)
    return folder


def build_parts(folder: Path, spec: TinyModel) -> Path:
    """Writes the transformer and the tokenizer alone into `folder`, as transformers does.

    Returns:
        `folder`.
    """
    with muted():
        import torch

        torch.manual_seed(0)
        _build_tokenizer(spec).save_pretrained(folder)
        ARCHITECTURES[spec.architecture](spec).save_pretrained(folder)
    return folder


def edit_json(path: Path, changes: Mapping[str, Any]) -> None:
    """Replaces top-level keys of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def sample_texts() -> list[str]:
    """The texts that export verifies on: they also train the tokenizers here."""
    from unitvec_export.prove.verification import load_sample

    return load_sample()


def _assemble(parts: Path, spec: TinyModel) -> Any:
    from sentence_transformers import SentenceTransformer, models

    # RoBERTa's files are left to name no limit, as the originals do.
    limit = None if spec.architecture == "roberta" else spec.max_seq_length
    transformer = models.Transformer(
        str(parts), max_seq_length=limit, do_lower_case=spec.lower_case
    )
    modules: list[Any] = [transformer, models.Pooling(spec.dim, pooling_mode=spec.pooling)]
    if spec.normalize:
        modules.append(models.Normalize())
    return SentenceTransformer(
        modules=modules,
        device="cpu",
        prompts=dict(spec.prompts),
        default_prompt_name=spec.default_prompt_name,
    )


def _build_tokenizer(spec: TinyModel) -> Any:
    import transformers

    roberta_kind = spec.architecture in BYTE_LEVEL
    tokenizer = _train_bytes() if roberta_kind else _train_wordpiece(spec)
    names = ("cls_token", "pad_token", "sep_token", "unk_token", "mask_token")
    specials = _ROBERTA_SPECIALS if roberta_kind else ("[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]")
    inputs = ["input_ids", "attention_mask"]
    if spec.architecture == "bert":
        inputs.append("token_type_ids")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=inputs,
        **dict(zip(names, specials, strict=True)),
    )


def _train_wordpiece(spec: TinyModel) -> Any:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=not spec.lower_case)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=list(_BERT_SPECIALS), show_progress=False
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    if not spec.special_tokens:
        return tokenizer
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=list(ids.items()),
    )
    return tokenizer


def _train_bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(_ROBERTA_SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))
    )
    return tokenizer
