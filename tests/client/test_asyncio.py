"""What only the asyncio client has: async sources, cancellation, tasks side by side."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

import unitvec_client as uv
from unitvec_client.core.steps import Compute, Script
from unitvec_client.drivers.asynchronous import Link, run

WORDS = [f"text number {i}" for i in range(100)]


async def words() -> AsyncIterator[str]:
    for word in WORDS:
        await asyncio.sleep(0)
        yield word


async def test_async_iterables(fake: Any, expected: np.ndarray) -> None:
    async with uv.AsyncClient(fake.target) as client:
        items = [item async for item in client.embed_stream(words(), chunk_texts=7)]
        np.testing.assert_array_equal(np.stack([item.vector for item in items]), expected)
        found = await client.search(WORDS[3], words(), top_k=1)
    assert found[0][0].index == 3


async def test_long_work_leaves_the_event_loop_free(fake: Any) -> None:
    """It waits for what only the loop does."""
    turned = threading.Event()

    def script() -> Script[bool]:
        asyncio.get_running_loop().call_soon(turned.set)
        done: bool = yield Compute(lambda: turned.wait(60))
        return done

    link = Link(fake.target, uv.ConnectionOptions())
    assert await run(link.open(), script())
    await link.close()


async def test_tasks_share_a_client(fake: Any, expected: np.ndarray) -> None:
    async with uv.AsyncClient(fake.target) as client:
        results = await asyncio.gather(*(client.embed(word) for word in WORDS))
    np.testing.assert_array_equal(np.stack(results), expected)


@pytest.mark.parametrize("n", [1, 100])
async def test_cancelled_task_stays_cancelled_and_leaves_none_behind(fake: Any, n: int) -> None:
    arrived, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(arrived.set)
        release.wait()

    fake.servicer.before_reply = hold
    async with uv.AsyncClient(fake.target) as client:
        before = asyncio.all_tasks()
        task = asyncio.create_task(client.embed(WORDS[:n]))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        # grpc's own task hears of the end from its core a moment later; ours have ended.
        assert [task for task in left if "_AioCall" not in repr(task)] == []
        if left:
            _, pending = await asyncio.wait(left, timeout=10)
            assert pending == set()


async def test_closing_under_a_call_is_an_error_of_ours(fake: Any) -> None:
    arrived, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def hold() -> None:
        loop.call_soon_threadsafe(arrived.set)
        release.wait()

    fake.servicer.before_reply = hold
    client = uv.AsyncClient(fake.target)
    task = asyncio.create_task(client.embed("a"))
    await arrived.wait()
    await client.close()
    with pytest.raises(uv.CallCancelledError):
        await task
    release.set()


async def test_stream_left_early_leaves_no_task(fake: Any) -> None:
    async with uv.AsyncClient(fake.target) as client:
        await client.models()
        before = asyncio.all_tasks()
        async with contextlib.aclosing(client.embed_stream(WORDS, chunk_texts=2)) as items:  # type: ignore[type-var]
            assert (await anext(items)).index == 0
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        # grpc's own task hears of the end from its core a moment later; ours have ended.
        assert [task for task in left if "_AioCall" not in repr(task)] == []
        if left:
            _, pending = await asyncio.wait(left, timeout=10)
            assert pending == set()
    assert await asyncio.to_thread(fake.servicer.stream_ended.wait, 10)


def test_making_a_client_needs_no_loop_and_no_server() -> None:
    uv.AsyncClient("nowhere:1")
    uv.Client("nowhere:1").close()
