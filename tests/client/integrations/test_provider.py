"""What all integrations share: prompts, event loops, pickles, tokens, closing, light imports."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import re
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.client.integrations.conftest import TOKEN
from unitvec_client import (
    AsyncClient,
    Client,
    ConnectionOptions,
    InputError,
    InputTypeError,
    InvalidArgumentError,
    ModelNotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from unitvec_client.providers.endpoint import Endpoint
from unitvec_client.providers.loops import LoopClients
from unitvec_client.providers.prompts import Role
from unitvec_client.providers.provider import Provider, TextOptions, find_model
from unitvec_protos.installation import install_command

FRAMEWORKS = (
    "langchain_core",
    "llama_index",
    "haystack",
    "chromadb",
    "sklearn",
    "torch",
    "pydantic",
)
MODULES = {
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index", "llama-index"),
    "haystack": ("haystack", "haystack"),
    "chroma": ("chromadb", "chroma"),
    "scikit_learn": ("sklearn", "scikit-learn"),
}


def test_importing_the_client_and_the_facade_imports_no_framework() -> None:
    script = f"""
import sys
import unitvec_client, unitvec_client.integrations.sentence_transformer
print([name for name in {FRAMEWORKS!r} if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("module", MODULES)
def test_without_its_framework_a_module_names_the_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework, extra = MODULES[module]
    name = f"unitvec_client.integrations.{module}"
    loaded = [key for key in sys.modules if key.split(".")[0] == framework]
    for key in (framework, *loaded):
        monkeypatch.setitem(sys.modules, key, None)  # type: ignore[arg-type]  # as Python does
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=re.escape(install_command(extra))):
        __import__(name)


@pytest.mark.parametrize(
    ("role", "prompt_name", "prefix"),
    [
        ("query", None, "query: "),
        ("document", "passage", "passage: "),
        ("document", "query", "query: "),
        ("document", "", ""),
        (None, None, "query: "),  # the model's default prompt
    ],
)
async def test_prompts(
    target: str, client: Client, role: Role | None, prompt_name: str | None, prefix: str
) -> None:
    provider = Provider(Endpoint(target, "prompted"))
    options = TextOptions(role=role, prompt_name=prompt_name)
    found = provider.embed(["a cat"], options)
    awaited = await provider.aembed(["a cat"], options)
    expected = client.embed([prefix + "a cat"], model="prompted", prompt_name="")
    np.testing.assert_allclose(found.vectors, expected, atol=1e-6)
    np.testing.assert_allclose(awaited.vectors, found.vectors, atol=1e-6)
    await provider.aclose()


def test_event_loops_one_after_the_other(target: str) -> None:
    provider = Provider(Endpoint(target))
    found = [asyncio.run(provider.aembed(["a cat"])).vectors for _ in range(5)]
    assert all(np.allclose(vectors, found[0], atol=1e-6) for vectors in found)
    np.testing.assert_allclose(provider.embed(["a cat"]).vectors, found[0], atol=1e-6)
    provider.close()


def test_event_loops_side_by_side(target: str) -> None:
    provider = Provider(Endpoint(target))

    async def embed(text: str) -> list[np.ndarray]:
        results = await asyncio.gather(*(provider.aembed([text]) for _ in range(8)))
        return [result.vectors for result in results]

    texts = [f"text {i}" for i in range(4)]
    with ThreadPoolExecutor(len(texts)) as threads:
        found = list(threads.map(lambda text: asyncio.run(embed(text)), texts))
    for text, vectors in zip(texts, found, strict=True):
        expected = provider.embed([text]).vectors
        assert all(np.allclose(each, expected, atol=1e-6) for each in vectors)
    provider.close()


class Recorder:
    """Opens clients and tells which are closed."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.opened: list[AsyncClient] = []

    def open(self) -> AsyncClient:
        self.opened.append(AsyncClient(self.target))
        return self.opened[-1]

    def closed(self) -> list[bool]:
        return [client._link.is_closed for client in self.opened]


def test_each_loop_has_one_client_which_it_closes_as_it_ends(target: str) -> None:
    recorder = Recorder(target)
    clients = LoopClients(recorder.open)

    async def call() -> None:
        first, second = await asyncio.gather(clients.get(), clients.get())
        assert first is second
        await first.embed("a cat")
        assert not recorder.closed()[-1]

    for done in range(1, 4):
        asyncio.run(call())
        assert recorder.closed() == [True] * done
        assert not clients._lifetimes


def test_a_client_that_nobody_holds_is_closed_by_its_loop(target: str) -> None:
    recorder = Recorder(target)

    async def call() -> None:
        clients = LoopClients(recorder.open)
        await (await clients.get()).embed("a cat")
        clients.close()
        await asyncio.sleep(0)  # The loop makes a task of closing it.
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        assert recorder.closed() == [True]

    asyncio.run(call())


def test_a_loop_that_was_closed_without_a_last_turn_is_forgotten(target: str) -> None:
    clients = LoopClients(Recorder(target).open)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(clients.get())
    loop.close()
    asyncio.run(_get(clients))
    assert not clients._lifetimes


async def _get(clients: LoopClients) -> None:
    await clients.get()


async def test_closing_then_calling_opens_again(target: str) -> None:
    provider = Provider(Endpoint(target))
    before = provider.embed(["a cat"]).vectors
    await provider.aembed(["a cat"])
    await provider.aclose()
    await provider.aclose()
    np.testing.assert_allclose(provider.embed(["a cat"]).vectors, before, atol=1e-6)
    np.testing.assert_allclose((await provider.aembed(["a cat"])).vectors, before, atol=1e-6)
    await provider.aclose()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_copies_have_clients_of_their_own(target: str, copied: object) -> None:
    assert callable(copied)
    provider = Provider(Endpoint(target, "prompted"))
    expected = provider.embed(["a cat"]).vectors
    again = copied(provider)
    assert again == provider
    provider.close()
    np.testing.assert_allclose(again.embed(["a cat"]).vectors, expected, atol=1e-6)
    again.close()


def test_threads_share_one_client(target: str) -> None:
    provider = Provider(Endpoint(target))
    barrier = threading.Barrier(8)

    def open_client(_: int) -> Client:
        barrier.wait()
        return provider._open()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(map(id, threads.map(open_client, range(8))))) == 1
    provider.close()


def test_a_provider_that_nobody_holds_goes_away(target: str) -> None:
    provider = Provider(Endpoint(target))
    provider.embed(["a cat"])
    gone = weakref.ref(provider)
    del provider
    gc.collect()
    assert gone() is None


async def test_a_token_of_a_variable(guarded_target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(Endpoint(guarded_target, token_env_var="SOME_TOKEN"))
    monkeypatch.delenv("SOME_TOKEN", raising=False)
    with pytest.raises(InputError, match="SOME_TOKEN"):
        provider.embed(["a cat"])
    monkeypatch.setenv("SOME_TOKEN", "wrong")
    with pytest.raises(UnauthenticatedError):
        provider.embed(["a cat"])
    provider.close()
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    assert provider.embed(["a cat"]).vectors.shape == (1, 32)
    assert (await provider.aembed(["a cat"])).vectors.shape == (1, 32)
    assert TOKEN.encode() not in pickle.dumps(provider)
    await provider.aclose()


def test_a_token_of_the_connection(guarded_target: str) -> None:
    connection = ConnectionOptions(token=TOKEN)
    provider = Provider(Endpoint(guarded_target, connection=connection))
    assert provider.embed(["a cat"]).vectors.shape == (1, 32)
    provider.close()
    with pytest.raises(InputError, match="exclude"):
        Endpoint(connection=connection, token_env_var="SOME_TOKEN")


def test_models_go_by_name_or_by_id(target: str, client: Client) -> None:
    info = client.models()
    default = info.models[0]
    assert find_model(info, "") == default
    assert find_model(info, default.name) == default
    assert find_model(info, default.model_id) == default
    assert find_model(info, "prompted").dim == 32


async def test_errors_are_those_of_the_client(target: str) -> None:
    with pytest.raises(ModelNotFoundError, match="all-MiniLM-L6-v2, prompted"):
        Provider(Endpoint(target, "none")).embed(["a cat"])
    provider = Provider(Endpoint(target))
    with pytest.raises(InputTypeError, match=r"texts\[1\] must be a str"):
        provider.embed(["a cat", 7])
    with pytest.raises(InputTypeError, match="sequence of str"):
        provider.embed("a cat")
    for call in (provider.embed, lambda *a, **k: asyncio.run(provider.aembed(*a, **k))):
        with pytest.raises(InvalidArgumentError) as caught:
            await asyncio.to_thread(call, ["a cat"], TextOptions(prompt_name="none"))
        assert caught.value.reason == "UNKNOWN_PROMPT"
    with pytest.raises(InvalidArgumentError):
        provider.embed(["a cat"], TextOptions(dimensions=385))
    with pytest.raises(InputTypeError):
        Endpoint(7)  # type: ignore[arg-type]
    provider.close()


def test_an_absent_server_is_unavailable() -> None:
    provider = Provider(Endpoint("127.0.0.1:1"))
    with pytest.raises(UnavailableError):
        provider.embed(["a cat"])
    with pytest.raises(UnavailableError):
        asyncio.run(provider.aembed(["a cat"]))
    provider.close()


def test_a_model_is_asked_for_again_after_a_refusal(target: str) -> None:
    provider = Provider(Endpoint(target, "prompted"))
    provider.model()
    with pytest.raises(InvalidArgumentError):
        provider.embed(["a cat"], TextOptions(prompt_name="none"))
    assert provider._model is None
    assert provider.embed(["a cat"], TextOptions(role="query")).vectors.shape == (1, 32)
    provider.close()


def test_a_deadline_grows_with_the_texts() -> None:
    endpoint = Endpoint(timeout_s=10)
    assert [endpoint.deadline_s(n) for n in (0, 1, 512, 513, 5120)] == [10, 10, 10, 20, 100]
    assert Endpoint(timeout_s=None).deadline_s(1) is None


def test_times_may_be_numpy_s() -> None:
    timeout_s = Endpoint(timeout_s=np.float32(2.5)).timeout_s
    assert (timeout_s, type(timeout_s)) == (2.5, float)
    with pytest.raises(InputError, match="timeout_s must be positive"):
        Endpoint(timeout_s=0)
