"""What a transformer computes beside its tensors: its kind, and the settings that count."""

from __future__ import annotations

from typing import Any

# Settings that no vector depends on, or that the tensors and the tokenizer tell already.
SETTINGS_WITHOUT_EFFECT = {
    "the file, and how it is loaded and run": (
        "architectures auto_map dtype torch_dtype transformers_version tokenizer_class "
        "attn_implementation reference_compile deterministic_flash_attn repad_logits_with_grad "
        "chunk_size_feed_forward gradient_checkpointing torchscript tf_legacy_loss use_bfloat16 "
        "return_dict output_hidden_states output_attentions use_cache"
    ),
    "training and heads": (
        "initializer_range initializer_factor initializer_cutoff_factor init_std finetuning_task "
        "problem_type id2label label2id num_labels task_specific_params summary_type "
        "summary_use_proj summary_activation summary_proj_to_labels decoder_bias "
        "norm_bias_decoder sparse_prediction sparse_pred_ignore_index tie_word_embeddings "
        "add_pooling_layer"
    ),
    "decoders and generated text": (
        "is_encoder_decoder num_decoder_layers decoder_start_token_id bos_token_id eos_token_id "
        "sep_token_id cls_token_id mask_token_id unk_token_id forced_bos_token_id "
        "forced_eos_token_id prefix max_length min_length do_sample early_stopping num_beams "
        "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty "
        "length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids "
        "num_return_sequences output_scores return_dict_in_generate remove_invalid_values "
        "exponential_decay_length_penalty suppress_tokens begin_suppress_tokens"
    ),
    "older releases, which newer ones spell anew": (
        "global_attn_every_n_layers sliding_window_pattern"
    ),
}
_WITHOUT_EFFECT = frozenset(" ".join(SETTINGS_WITHOUT_EFFECT.values()).split())
WORDS_WITHOUT_EFFECT = ("dropout", "layerdrop", "classifier", "loss", "pooler")
# What older releases wrote into every file, and newer ones no longer know.
FORMER_DEFAULTS = {"position_embedding_type": "absolute"}


def read_architecture(config: Any) -> dict[str, Any]:
    """Kind of transformer, and those of its settings that are not the defaults of its kind.

    Args:
        config: The `transformers` configuration of a loaded model.
    """
    usual, own = _settings(type(config)()), _settings(config)
    kept = {key: value for key, value in own.items() if usual.get(key) != value}
    return {"model_type": config.model_type, **kept}


def _settings(config: Any) -> dict[str, Any]:
    return {
        key: value
        for key, value in config.to_dict().items()
        if not _is_without_effect(key) and FORMER_DEFAULTS.get(key) != value
    }


def _is_without_effect(key: str) -> bool:
    return (
        key.startswith("_")
        or key in _WITHOUT_EFFECT
        or any(word in key for word in WORDS_WITHOUT_EFFECT)
    )
