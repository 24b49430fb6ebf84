"""Long texts: `python -m bench.long_context [--layers N] [--hidden N]`.

Builds a BERT of random weights with 12 heads that reads 8,192 tokens, exports it and serves it with
two workers. Prints processor time a token beside `SentenceTransformer.encode` of the same text, in
turns, at several lengths; and memory of the server with two of the longest texts side by side, as
it states it and as it is. Export has compared vectors at the full length before.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from bench.harness.procfs import processor_s
from bench.harness.server_process import ServerProcess
from unitvec_client import Client
from unitvec_client.errors import UnitvecError
from unitvec_export.export import STEPS, export
from unitvec_export.noise import muted
from unitvec_export.origins import ExportOptions
from unitvec_export.progress import Progress
from unitvec_export.source import Request

_HEADS = 12
_TOKENS = 8192
_LENGTHS = (512, 2048, _TOKENS)
_ROUNDS = 3
_WORKERS = 2
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=768)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        source, artifact = Path(work) / "source", Path(work) / "artifact"
        model = _build(source, hidden=args.hidden, layers=args.layers)
        options = ExportOptions(Request(str(source)), artifact, ("fp32",))
        export(options, Progress(sys.stdout, steps=STEPS))
        log = io.StringIO()
        flags = ("--model", str(artifact), "--port", "0", "--workers", str(_WORKERS))
        with ServerProcess(["-m", "unitvec_server", *flags], log=log) as server:
            try:
                _show_memory(server, log.getvalue())
                _show_speed(server, model)
            except UnitvecError:
                sys.stderr.write(log.getvalue())
                raise


def _build(folder: Path, *, hidden: int, layers: int) -> Any:
    """Writes the model, and returns it as sentence-transformers loads it."""
    with muted():
        import transformers
        from sentence_transformers import SentenceTransformer, models

        config = transformers.BertConfig(
            vocab_size=len(_SPECIAL) + _WORDS,
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=_HEADS,
            intermediate_size=4 * hidden,
            max_position_embeddings=_TOKENS,
        )
        parts = folder.with_name("parts")
        transformers.BertModel(config).save_pretrained(parts)
        _make_tokenizer().save_pretrained(parts)
        transformer = models.Transformer(str(parts), max_seq_length=_TOKENS)
        modules = [transformer, models.Pooling(hidden), models.Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder))
        return SentenceTransformer(str(folder), device="cpu")


def _make_tokenizer() -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = [*_SPECIAL, *(f"w{n}" for n in range(_WORDS))]
    vocabulary = {word: n for n, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **dict(zip(names, _SPECIAL, strict=True))
    )


def _text(tokens: int, *, seed: int = 0) -> str:
    return " ".join(f"w{(seed + 7 * n) % _WORDS}" for n in range(tokens - 2))


def _show_memory(server: ServerProcess, log: str) -> None:
    texts = [_text(_TOKENS, seed=seed) for seed in range(2 * _WORKERS)]
    with Client(server.target) as client, ThreadPoolExecutor(_WORKERS) as pool:
        list(pool.map(lambda text: client.embed([text]), texts))
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    [peak_kib] = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    [stated] = re.findall(r"memory: .*? runs of the longest texts", log)
    print(f"stated   {stated}")
    print(f"peak     {int(peak_kib) // 1024} MiB, {_WORKERS} texts of {_TOKENS} tokens at a time")


def _show_speed(server: ServerProcess, model: Any) -> None:
    print("\ntokens  unitvec us/token  sentence-transformers us/token  ratio")
    with Client(server.target) as client:
        for tokens in _LENGTHS:
            text = [_text(tokens)]
            rounds = [
                (
                    _cost_s(partial(client.embed, text), partial(processor_s, server.pid)),
                    _cost_s(partial(model.encode, text), time.process_time),
                )
                for _ in range(_ROUNDS)
            ]
            ours, theirs = (
                sorted(each)[_ROUNDS // 2] / tokens * 1e6 for each in zip(*rounds, strict=True)
            )
            print(f"{tokens:6d}  {ours:16.0f}  {theirs:30.0f}  {theirs / ours:5.2f}")


def _cost_s(work: Callable[[], object], clock: Callable[[], float]) -> float:
    before_s = clock()
    work()
    return clock() - before_s


if __name__ == "__main__":
    main()
