"""Tiny transformers with random weights: `ARCHITECTURES`, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.models import TinyModel

VOCABULARY_SIZE = 600
WINDOW = 16
"""Tokens that a layer with local attention sees, of models that have such layers."""

Builder = Callable[["TinyModel"], Any]


def _plain(name: str, **options: Any) -> Builder:
    """An architecture whose configuration has BERT's names.

    Args:
        name: Of the classes, without `Config` and `Model`.
        options: Further settings.
    """

    def build(spec: TinyModel) -> Any:
        import transformers

        config = getattr(transformers, f"{name}Config")(**{**_sizes(spec), **options})
        return getattr(transformers, f"{name}Model")(config)

    return build


def _sizes(spec: TinyModel) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": spec.dim,
        "num_hidden_layers": 2,
        "num_attention_heads": spec.heads,
        "intermediate_size": 2 * spec.dim,
        "initializer_range": spec.initializer_range,
        # The roberta kind counts positions from padding_idx + 1 = 2.
        "max_position_embeddings": spec.max_seq_length + 2,
    }


def _bert(spec: TinyModel) -> Any:
    return _plain("Bert", type_vocab_size=spec.token_types)(spec)


def _distilbert(spec: TinyModel) -> Any:
    import transformers

    config = transformers.DistilBertConfig(
        vocab_size=VOCABULARY_SIZE,
        dim=spec.dim,
        n_layers=2,
        n_heads=spec.heads,
        hidden_dim=2 * spec.dim,
        initializer_range=spec.initializer_range,
        max_position_embeddings=spec.max_seq_length,
    )
    return transformers.DistilBertModel(config)


def _t5(spec: TinyModel) -> Any:
    import transformers

    config = transformers.T5Config(
        vocab_size=VOCABULARY_SIZE,
        d_model=spec.dim,
        d_kv=spec.dim // spec.heads,
        d_ff=2 * spec.dim,
        num_layers=2,
        num_heads=spec.heads,
        pad_token_id=0,
        initializer_factor=2.0,
    )
    return transformers.T5EncoderModel(config)


_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_GROUPED = {**_IDS, "num_key_value_heads": 2, "head_dim": 16}
_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
_MODERNBERT = {
    **_IDS,
    # The fourth layer is the second that sees the whole text.
    "num_hidden_layers": 4,
    "local_attention": WINDOW,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
_GEMMA = {
    **_GROUPED,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 16,
    "sliding_window": WINDOW,
    "use_bidirectional_attention": True,
}

ARCHITECTURES: Mapping[str, Builder] = {
    "albert": _plain("Albert", embedding_size=24),
    "bert": _bert,
    "camembert": _plain("Camembert", type_vocab_size=1),
    "deberta": _plain("Deberta", **_RELATIVE),
    "deberta-v2": _plain(
        "DebertaV2", **_RELATIVE, position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True
    ),
    "distilbert": _distilbert,
    "electra": _plain("Electra", embedding_size=24),
    "ernie": _plain("Ernie"),
    "eurobert": _plain("EuroBert", **_IDS),
    "gemma3": _plain("Gemma3Text", **_GEMMA),
    "gte": _plain("Gte", pad_token_id=0),
    "jina-v3": _plain("JinaEmbeddingsV3", **_IDS),
    "llama": _plain("Llama", **_GROUPED),
    "mistral": _plain("Mistral", **_GROUPED, sliding_window=WINDOW),
    "modernbert": _plain("ModernBert", **_MODERNBERT),
    "mpnet": _plain("MPNet"),
    "nomic-bert": _plain("NomicBert"),
    "qwen2": _plain("Qwen2", **_IDS, num_key_value_heads=2, vocab_size=VOCABULARY_SIZE + 8),
    "qwen3": _plain("Qwen3", **_GROUPED),
    "roberta": _plain("Roberta", type_vocab_size=1),
    "t5": _t5,
    "xlm-roberta": _plain("XLMRoberta", type_vocab_size=1),
}
DECODERS = frozenset({"gemma3", "llama", "mistral", "qwen2", "qwen3"})
BYTE_LEVEL = frozenset({"camembert", "mpnet", "roberta", "xlm-roberta"})
"""Those whose tokenizer here is of RoBERTa's kind: `<s> ... </s>`, with the padding token 1."""
