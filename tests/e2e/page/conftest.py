"""The playground, open in a real Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browsers import Opened, chromium
from tests.serving import Server, serving
from unitvec_client import Client

VIEWS = {
    "compare": "#insights b",
    "search": "#results li",
    "map": "#legend i",
    "tokens": "#pieces span",
}
"""What shows that a view is done, by its name."""

Open = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of these are of the deep tier."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.deep)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """No longer than a module: while it lives, its loop runs, and asyncio starts no other."""
    with chromium() as made:
        yield made


@pytest.fixture(scope="session")
def page_server(minilm_artifact: Path, prompted_artifact: Path) -> Iterator[Server]:
    """A real model, by default, and a tiny one with prompts."""
    models = ("--model", f"minilm={minilm_artifact}", "--model", f"tiny={prompted_artifact}")
    with serving(*models, "--http-port", "0") as server:
        yield server


@pytest.fixture(scope="session")
def client(page_server: Server) -> Iterator[Client]:
    with Client(page_server.target) as made:
        yield made


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens a server's page. It may log no error and ask no other host, whatever a test does.

    Chromium itself logs requests that fail, which is fine where a test makes them fail.
    """
    visits: list[tuple[str, Opened]] = []
    fails: set[str] = set()

    def go(url: str, *, width: int = 1280, scheme: str = "light", may_fail: bool = False) -> Page:
        fails.update([url] if may_fail else [])
        context = browser.new_context(
            viewport={"width": width, "height": 850},
            color_scheme=scheme,  # type: ignore[arg-type]
            permissions=["clipboard-read", "clipboard-write"],
        )
        opened = Opened(context.new_page(), ("error", "warning"))
        opened.listen()
        visits.append((url, opened))
        opened.page.goto(f"{url}/")
        return opened.page

    yield go
    for url, opened in visits:
        opened.page.context.close()
        logged = opened.complaints
        if url in fails:
            logged = [one for one in logged if not one.startswith("Failed to load resource: ")]
        assert logged == []
        assert [one for one in opened.requests if not one.startswith(f"{url}/")] == []


@pytest.fixture
def page(visit: Open, page_server: Server) -> Page:
    """The page as a newcomer sees it first."""
    made = visit(page_server.url)
    made.wait_for_selector(VIEWS["compare"])
    return made


def show(page: Page, view: str) -> None:
    """Goes to a view and waits until it is done."""
    page.click(f"#tab-{view}")
    page.wait_for_selector(VIEWS[view])
