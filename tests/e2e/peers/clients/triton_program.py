"""Calls a server with tritonclient, blocking, streaming and asyncio, and prints what comes."""

import asyncio
import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

OUTPUT = "sentence_embedding"


def tensor(texts, *, deep=True, module=triton):
    """Texts as clients of Triton send them."""
    data = np.array(texts, dtype=object)
    data = data[:, None] if deep else data
    made = module.InferInput("TEXT", list(data.shape), "BYTES")
    made.set_data_from_numpy(data)
    return made


def ids_tensors(rows):
    """Token ids with a mask, padded."""
    width = max(map(len, rows))
    ids = np.array([row + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    made = []
    for name, data in (("input_ids", ids), ("attention_mask", mask)):
        made.append(triton.InferInput(name, list(data.shape), "INT64"))
        made[-1].set_data_from_numpy(data)
    return made


def streamed(client, model, texts):
    """One request for each text, and one that fails, over one stream."""
    found = queue.Queue()
    client.start_stream(lambda result, error: found.put((result, error)))
    for index, text in enumerate([*texts, None]):
        name = model if text is not None else "nope"
        client.async_stream_infer(
            name,
            [tensor([text or ""])],
            request_id=str(index),
            enable_empty_final_response=True,
        )
    client.stop_stream()
    replies = [found.get() for _ in range(len(texts) + 1)]
    *good, (_, error) = replies
    return {
        "ids": [result.get_response().id for result, _ in good],
        "rows": [result.as_numpy("embedding")[0].tolist() for result, _ in good],
        "error": str(error),
    }


async def asynchronously(target, model, texts):
    """A call and a stream over asyncio."""
    async with triton_aio.InferenceServerClient(target) as client:

        async def requests():
            for text in texts:
                yield {"model_name": model, "inputs": [tensor([text], module=triton_aio)]}

        called = await client.infer(model, [tensor(texts, module=triton_aio)])
        rows = []
        async for result, error in client.stream_infer(requests()):
            rows.append(error or result.as_numpy("embedding")[0].tolist())
        return {
            "live": await client.is_server_live(),
            "infer": called.as_numpy("embedding").tolist(),
            "stream": rows,
        }


def main(target, model, texts, rows):
    """Every method of the client that a server of embeddings can answer."""
    client = triton.InferenceServerClient(target)
    wanted = [triton.InferRequestedOutput(OUTPUT)]
    waiting = queue.Queue()
    client.async_infer(model, [tensor(texts)], lambda result, error: waiting.put((result, error)))
    called, error = waiting.get()
    statistics = client.get_inference_statistics(model, as_json=True)
    found = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": [client.is_model_ready(model), client.is_model_ready("nope")],
        "server": client.get_server_metadata(as_json=True),
        "metadata": client.get_model_metadata(model, as_json=True),
        "config": client.get_model_config(model, as_json=True),
        "index": client.get_model_repository_index(as_json=True),
        "statistics": statistics,
        "infer": client.infer(model, [tensor(texts)], outputs=wanted).as_numpy(OUTPUT).tolist(),
        "flat": client.infer(model, [tensor(texts, deep=False)]).as_numpy("embedding").tolist(),
        "short": client.infer(
            model,
            [tensor(texts)],
            parameters={"dimensions": 8, "normalize": False, "prompt_name": "passage"},
            timeout=30_000_000,
            compression_algorithm="gzip",
        )
        .as_numpy("embedding")
        .tolist(),
        "ids": client.infer(model, ids_tensors(rows), parameters={"prompt_name": ""})
        .as_numpy("embedding")
        .tolist(),
        "called": error or called.as_numpy("embedding").tolist(),
        "streamed": streamed(client, model, texts),
        "asyncio": asyncio.run(asynchronously(target, model, texts)),
    }
    try:
        client.infer("nope", [tensor(texts)])
    except InferenceServerException as exc:
        found["refused"] = [exc.status(), exc.message()]
    try:
        client.load_model(model)
    except InferenceServerException as exc:
        found["not_served"] = exc.status()
    client.close()
    print(json.dumps(found))


main(*sys.argv[1:3], *map(json.loads, sys.argv[3:]))
