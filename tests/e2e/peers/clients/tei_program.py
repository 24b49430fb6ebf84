"""Calls a server with tei-client, blocking and asyncio, and prints what comes as JSON."""

import asyncio
import json
import sys

from tei_client import GrpcClient
from tei_client.models import TruncationDirection


def embeddings(found):
    """Vectors as lists."""
    return [list(map(float, row)) for row in found]


async def asynchronously(target, texts):
    """The same over asyncio; the client must be made in its loop."""
    client = GrpcClient(target)
    split = await client.async_tokenize(texts)
    found = {
        "embed": embeddings(await client.async_embed(texts)),
        "tokens": [[token.id for token in each.tokens] for each in split],
        "info": (await client.async_info()).model_dump(mode="json"),
    }
    await client.async_channel.close()
    return found


def main(target, texts, long):
    """Every method that embeds or splits."""
    client = GrpcClient(target)
    split = client.tokenize(texts)
    ids = [[token.id for token in each.tokens] for each in split]
    found = {
        "info": client.info().model_dump(mode="json"),
        "embed": embeddings(client.embed(texts)),
        "left": embeddings(
            client.embed(long, truncate=True, truncation_direction=TruncationDirection.Left)
        ),
        "prompted": embeddings(client.embed(texts, prompt_name="passage")),
        "tokens": ids,
        "pieces": [[token.text for token in each.tokens] for each in split],
        "decoded": client.decode(ids),
        "prompts": client.prompt_names(),
        "health": client.health(),
        "asyncio": asyncio.run(asynchronously(target, texts)),
    }
    try:
        client.embed(long)
    except Exception as exc:
        found["refused"] = exc.code().name
    print(json.dumps(found))


main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3])
