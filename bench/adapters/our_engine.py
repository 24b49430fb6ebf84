"""unitvec's engine in process: admission, tokenizer, scheduler and encoder, but no gRPC."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from bench.adapters.our_layers import PACKAGES, server_config
from bench.harness.adapter import ConcurrentAdapter, Setup, Vectors
from unitvec_server.engine.loading import load_engine
from unitvec_server.engine.requests import Caller, EncodeOptions, TextList


class InProcess(ConcurrentAdapter):
    """Awaits `Engine.embed` on the loop that the server would use."""

    packages = PACKAGES

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as the server sets it
        self.token_limit = setup.max_seq_length
        self._tokenizing, self._comparing = ThreadPoolExecutor(setup.threads), ThreadPoolExecutor(1)
        self._engine, self._scheduler, _ = load_engine(
            server_config(setup), executor=self._tokenizing, comparing=self._comparing
        )

    async def embed(self, texts: list[str]) -> Vectors:
        """One request, a flow of its own as each unary call is."""
        caller = Caller(flow=object())
        wanted = [TextList(texts, EncodeOptions())]
        [embedded] = await self._engine.embed(self._engine.model(""), wanted, caller=caller)
        return embedded.vectors

    def close(self) -> None:
        """Ends the workers."""
        self._scheduler.stop()
        self._tokenizing.shutdown()
        self._comparing.shutdown()
        self.runner.close()
