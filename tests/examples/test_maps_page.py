"""The page of maps as people use it, in a real Chromium."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from corpora import Gloss
from map_page import Atlas, Map, render
from map_server import NEAREST, MapServer
from maps import METHODS, categorize, choose, cluster, nearest
from tests.browsers import Opened, chromium
from tests.examples.drawn_maps import drawn, fills, pixels_3d
from unitvec_client import Client

HOSTILE = "<img src=x onerror=\"document.title='owned'\"> <b>bold</b> &amp; </script> $code"
K = 6
TOLERANCES = {"2": 0.02, "3": 1e-6}
"""In pixels, which SVG rounds to hundredths, and in units of the scene."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def atlas(client: Client) -> Atlas:
    glosses = [*choose(12), Gloss("hostile", (HOSTILE,), "animal", HOSTILE)]
    vectors = client.embed([gloss.text for gloss in glosses])
    categories = categorize(glosses)
    groups = {"category": categories, "cluster": cluster(vectors, categories)}
    # The page does not care how points came about: six different views do.
    maps = [
        Map(method, vectors[:, 10 * i : 10 * i + dims], 0.5 + i / 10, i / 10)
        for i, method in enumerate(METHODS)
        for dims in (2, 3)
    ]
    return Atlas(glosses, vectors.shape[1], nearest(vectors, K), groups, maps)


@pytest.fixture(scope="module")
def path(atlas: Atlas, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("page") / "maps.html"
    made.write_text(render(atlas), encoding="utf-8", newline="\n")
    return made


@pytest.fixture(scope="module")
def opened(browser: Browser, path: Path) -> Iterator[Opened]:
    made = Opened(browser.new_page(viewport={"width": 1200, "height": 800}))
    made.listen()
    made.page.goto(path.as_uri())
    yield made
    made.page.close()


@pytest.fixture
def page(opened: Opened, path: Path) -> Iterator[Page]:
    """The page as if just opened; what a test does there may log no error nor load anything."""
    opened.page.mouse.move(1, 1)
    opened.page.keyboard.press("Escape")
    opened.page.fill("#query", "")
    _show(opened.page, "UMAP", "2", "category")
    yield opened.page
    assert opened.complaints == []
    loaded = [url for url in opened.requests if not url.startswith(("data:", "blob:"))]
    assert loaded == [path.as_uri()]


def _loneliest(points: np.ndarray) -> int:
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    return int(distances.min(axis=1).argmax())


def _listed(page: Page) -> list[int]:
    return [
        int(each)
        for each in page.locator("#panel .item").evaluate_all(
            "items => items.map((item) => item.dataset.index)"
        )
    ]


def _plain(text: str | None) -> str:
    return "".join((text or "").split())


def _show(page: Page, *choices: str) -> None:
    for choice in choices:
        page.locator(f"input[value='{choice}']").locator("xpath=..").click()


@pytest.mark.parametrize("method", METHODS)
def test_points_lie_where_the_method_puts_them(page: Page, atlas: Atlas, method: str) -> None:
    _show(page, method)
    expect(page.locator("#faithfulness strong")).to_have_text(f"{method} in 2-D")
    wanted = next(one for one in atlas.maps if (one.method, one.dims) == (method, 2))
    expect(page.locator("#faithfulness")).to_contain_text(
        f"keeps {wanted.kept:.0%} of the {K} nearest"
    )
    pixels = drawn(page).points
    for axis, sign in ((0, 1), (1, -1)):  # y of the screen goes down.
        assert np.corrcoef(pixels[:, axis], wanted.points[:, axis])[0, 1] * sign > 0.9999


def test_hover_shows_text_words_and_category(page: Page, atlas: Atlas) -> None:
    points = drawn(page).points
    index = _loneliest(points)
    page.mouse.move(*points[index])
    gloss = atlas.glosses[index]
    shown = page.locator(".hoverlayer .hovertext")
    expect(shown).to_have_count(1)
    assert _plain(shown.text_content()) == _plain(
        ", ".join(gloss.words) + gloss.text + gloss.category
    )


def test_click_lists_the_true_neighbours_and_marks_them(page: Page, atlas: Atlas) -> None:
    points = drawn(page).points
    index = _loneliest(points)
    page.mouse.click(*points[index])
    expect(page.locator("#panel h2")).to_have_text(", ".join(atlas.glosses[index].words))
    assert _listed(page) == atlas.neighbours.indices[index].tolist()
    cosines = [float(each) for each in page.locator("#panel .cosine").all_text_contents()]
    np.testing.assert_allclose(cosines, atlas.neighbours.cosines[index], atol=6e-4)
    _check_marks(page, index, atlas)


def _check_marks(page: Page, index: int, atlas: Atlas, *, dims: str = "2") -> None:
    """The text, its neighbours and a line to each of them are drawn, where they belong."""
    shown = drawn(page, dims)
    here, neighbours = shown.points[[index]], shown.points[atlas.neighbours.indices[index]]
    lines = np.stack([np.repeat(here, K, axis=0), neighbours], axis=1).reshape(2 * K, -1)
    expected = {"lines": lines, "neighbours": neighbours, "selected": here}
    assert shown.marks.keys() == expected.keys()
    for name, points in expected.items():
        np.testing.assert_allclose(shown.marks[name], points, atol=TOLERANCES[dims])


def test_list_tells_the_rank_of_neighbours_in_the_map(page: Page, atlas: Atlas) -> None:
    points = drawn(page).points
    index = _loneliest(points)
    page.mouse.click(*points[index])
    expect(page.locator("#panel .item")).to_have_count(K)
    shown = next(one.points for one in atlas.maps if (one.method, one.dims) == ("UMAP", 2))
    order = np.linalg.norm(shown - shown[index], axis=1).argsort().tolist()
    for k, other in enumerate(atlas.neighbours.indices[index]):
        told = page.locator("#panel .item .note").nth(k).text_content() or ""
        assert told.endswith(f" · rank {order.index(other)} in this map")


def test_neighbours_lead_on_and_escape_leads_out(page: Page, atlas: Atlas) -> None:
    points = drawn(page).points
    index = _loneliest(points)
    page.mouse.click(*points[index])
    page.locator("#panel .item").nth(1).click()
    follower = int(atlas.neighbours.indices[index, 1])
    expect(page.locator("#panel h2")).to_have_text(", ".join(atlas.glosses[follower].words))
    assert _listed(page) == atlas.neighbours.indices[follower].tolist()
    page.keyboard.press("Escape")
    expect(page.locator("#panel h2")).to_have_count(0)
    assert drawn(page).marks == {}


@pytest.mark.parametrize("query", ["person", "  The ", "$code", "zzzz"])
@pytest.mark.parametrize("dims", ["2", "3"])
def test_search_marks_what_matches(page: Page, atlas: Atlas, query: str, dims: str) -> None:
    _show(page, dims)
    page.fill("#query", query)
    wanted = query.strip().lower()
    expected = [
        i
        for i, gloss in enumerate(atlas.glosses)
        if wanted in ", ".join(gloss.words).lower() or wanted in gloss.text.lower()
    ]
    expect(page.locator("#count")).to_have_text(
        f"{len(expected)} of {len(atlas.glosses)} texts match"
    )
    assert _listed(page) == expected[:50]
    shown = drawn(page, dims)
    assert list(shown.marks) == (["matches"] if expected else [])
    if expected:
        places = shown.points[expected]
        np.testing.assert_allclose(shown.marks["matches"], places, atol=TOLERANCES[dims])


@pytest.mark.parametrize("kind", ["category", "cluster"])
def test_colours_follow_the_groups(page: Page, atlas: Atlas, kind: str) -> None:
    _show(page, kind)
    groups = atlas.groups[kind]
    expect(page.locator(".legendtext")).to_have_text(list(groups.names))
    legend = page.locator(".legendpoints path").evaluate_all(
        "paths => paths.map((path) => getComputedStyle(path).fill)"
    )
    assert len(set(legend)) == len(groups.names)
    assert fills(page) == {i: legend[number] for i, number in enumerate(groups.numbers)}


@pytest.mark.parametrize("method", METHODS)
def test_third_dimension(page: Page, atlas: Atlas, method: str) -> None:
    _show(page, method, "3")
    expect(page.locator("#faithfulness strong")).to_have_text(f"{method} in 3-D")
    points = pixels_3d(page)
    index = _loneliest(points)
    page.mouse.move(*points[index])
    expect(page.locator(".hovertext")).to_contain_text(atlas.glosses[index].words[0])
    page.mouse.down()  # Plotly looks at the button when it draws: a click may be over by then.
    expect(page.locator("#panel .item")).to_have_count(K)
    page.mouse.up()
    assert _listed(page) == atlas.neighbours.indices[index].tolist()
    _check_marks(page, index, atlas, dims="3")


def test_hostile_text_stays_text(page: Page, atlas: Atlas) -> None:
    index = len(atlas.glosses) - 1
    page.mouse.move(*drawn(page).points[index])
    page.fill("#query", "onerror")
    expect(page.locator("#panel .item strong")).to_have_text(HOSTILE)
    page.locator("#panel .item").click()
    expect(page.locator("#panel h2")).to_have_text(HOSTILE)
    page.mouse.move(*drawn(page).points[index])
    expect(page.locator(".hovertext")).to_contain_text("<img")
    assert _plain(HOSTILE) in _plain(page.locator(".hovertext").text_content())
    assert page.locator("main img, .hovertext a").count() == 0
    assert page.title() == "Maps of meaning"


def test_no_button_sends_texts_away(page: Page) -> None:
    for dims in ("2", "3"):
        _show(page, dims)
        expect(page.locator(".modebar-btn[data-title='Download plot as a PNG']")).to_have_count(1)
        titles = page.locator(".modebar-btn").evaluate_all(
            "buttons => buttons.map((button) => button.dataset.title)"
        )
        assert not [title for title in titles if "share" in title.lower()]
    assert page.locator("a[href^=http]").count() == 0


def test_dark_where_the_reader_wants_it(page: Page) -> None:
    paper = page.locator("#map .main-svg").first
    page.emulate_media(color_scheme="light")
    expect(paper).to_have_css("background-color", "rgb(255, 255, 255)")
    page.emulate_media(color_scheme="dark")
    expect(paper).to_have_css("background-color", "rgb(20, 23, 27)")
    expect(page.locator("body")).to_have_css("background-color", "rgb(20, 23, 27)")
    page.emulate_media(color_scheme="light")


def test_where_it_is_served_search_finds_by_meaning(
    browser: Browser, atlas: Atlas, client: Client
) -> None:
    texts = [gloss.text for gloss in atlas.glosses]
    with MapServer(0, render(atlas), client.embed(texts), client) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        opened = Opened(browser.new_page(viewport={"width": 1200, "height": 800}))
        opened.listen()
        page = opened.page
        try:
            page.goto(server.url)
            for query in ("puppy", "something to eat for breakfast"):
                page.fill("#query", query)
                cosines = client.similarity([query], texts)[0]
                wanted = np.argsort(-cosines, kind="stable")[:NEAREST]
                expect(page.locator("#panel h3")).to_have_text("Nearest in meaning")
                expect(page.locator("#panel .item .cosine").first).to_have_text(
                    f"{cosines[wanted[0]]:.3f}"
                )
                assert _listed(page) == wanted.tolist()
                expect(page.locator("#count")).to_have_text(
                    f"the {NEAREST} nearest of {len(texts)} texts"
                )
            page.fill("#query", "")
            expect(page.locator("#panel .item")).to_have_count(0)
        finally:
            page.close()
            server.shutdown()
            thread.join()
    assert opened.complaints == []
    assert {url.removeprefix(server.url) for url in opened.requests} <= {
        "",
        "search",
        "favicon.ico",
    }


@pytest.mark.parametrize("body", ["", "[]", "{}", "1", "{"])
def test_the_server_of_maps_refuses_what_is_no_query(client: Client, body: str) -> None:
    with MapServer(0, "<p>page", np.eye(3, dtype=np.float32), client) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for kind in ("application/json", "text/plain"):
                reply = httpx.post(
                    f"{server.url}search", content=body, headers={"content-type": kind}
                )
                assert reply.status_code == 400
            assert httpx.get(server.url).text == "<p>page"
            assert httpx.get(f"{server.url}etc/passwd").status_code == 404
            for method in ("GET", "POST"):
                reply = httpx.request(method, server.url, headers={"host": "rebound.example.com"})
                assert reply.status_code == 403
        finally:
            server.shutdown()
            thread.join()
