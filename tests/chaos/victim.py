"""A client process with calls and streams in flight, to be killed."""

from __future__ import annotations

import asyncio
import sys

from tests.chaos.expected import sample
from unitvec_client import AsyncClient

_CALLS = 8


async def main(target: str) -> None:
    """Says "going" once answers come in, and never stops."""
    texts = list(sample())
    async with AsyncClient(target) as client:
        await client.embed(texts[:1])

        async def stream() -> None:
            while True:
                async for _ in client.embed_stream(texts):
                    pass

        async def embed() -> None:
            while True:
                await client.embed(texts)

        going = [asyncio.create_task(call()) for _ in range(_CALLS) for call in (embed, stream)]
        await asyncio.sleep(0.2)
        print("going", flush=True)
        await asyncio.gather(*going)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
