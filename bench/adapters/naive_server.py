"""A gRPC server as one writes it in an afternoon: the baseline that batching must beat.

The same contract, tokenizer and fp32 graph as unitvec's, but each call runs the session by
itself: `--style inline` in the handler, over all threads; `--style threads` in a pool of as
many single-threaded runs.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import tokenizers

from bench.adapters.sbert import session_options
from unitvec_protos.v1 import embedding_pb2 as pb
from unitvec_server.model.artifact import Artifact, load_artifact

_SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingService"].full_name


class NaiveServicer:
    """Answers Embed, and nothing else of the contract.

    Args:
        artifact: The model.
        threads: Of the session, where there is no pool.
        pool: Where each call runs; None for the handler itself.
    """

    def __init__(
        self, artifact: Artifact, *, threads: int, pool: ThreadPoolExecutor | None
    ) -> None:
        self._pool = pool
        self._tokenizer = tokenizers.Tokenizer.from_file(str(artifact.tokenizer_path))
        self._tokenizer.enable_truncation(artifact.manifest.max_seq_length)
        self._tokenizer.enable_padding(pad_id=artifact.manifest.pad_token_id)
        self._session = ort.InferenceSession(
            str(artifact.graph_path("fp32")),
            session_options(1 if pool else threads),
            providers=["CPUExecutionProvider"],
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server adds to answer Embed."""
        embed = grpc.unary_unary_rpc_method_handler(
            self._answer,
            request_deserializer=pb.EmbedRequest.FromString,
            response_serializer=pb.EmbedResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"Embed": embed})

    async def _answer(self, request: Any, _: Any) -> Any:
        texts = list(request.texts)
        if self._pool is None:
            return self._embed(texts)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._embed, texts)

    def _embed(self, texts: list[str]) -> Any:
        encodings = self._tokenizer.encode_batch(texts)
        feed = {
            "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
        }
        vectors = self._session.run(None, feed)[0]  # (B, D)
        rows, dim = vectors.shape
        matrix = pb.Matrix(rows=rows, dim=dim, dtype=pb.DTYPE_FLOAT32, data=vectors.tobytes())
        return pb.EmbedResponse(embeddings=matrix)


async def serve(servicer: NaiveServicer) -> None:
    """Serves on a free port of this machine until it is killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((servicer.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"naive server serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the server."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.adapters.naive_server", description=__doc__
    )
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--style", choices=("inline", "threads"), required=True)
    args = parser.parse_args(argv)
    pool = ThreadPoolExecutor(args.threads) if args.style == "threads" else None
    servicer = NaiveServicer(load_artifact(args.artifact), threads=args.threads, pool=pool)
    _run(serve(servicer))


def _run(main_coroutine: Any) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main_coroutine)


if __name__ == "__main__":
    main()
