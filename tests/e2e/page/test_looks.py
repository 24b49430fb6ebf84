"""The page on a phone, in the dark, by keyboard and for screen readers."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import VIEWS, Open, show
from tests.serving import Server

LEAST_CONTRAST = 4.5
"""WCAG 2.2, level AA, of text."""

CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = rgba(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
      if (found[3] !== 0) throw new Error(`half transparent: ${one.outerHTML.slice(0, 90)}`);
    }
    return rgba("white");
  };
  const hasText = (one) => one.matches("textarea, input, select")
    || [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((one) => hasText(one) && one.checkVisibility() && !one.matches(":disabled, option"))
    .map((one) => {
      const [a, b] = [light(rgba(getComputedStyle(one).color)), light(behind(one))];
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      return [ratio, `${one.tagName} ${one.id} ${one.className} ${one.textContent.slice(0, 40)}`];
    });
}"""

NAMELESS = """() => [
  ...document.querySelectorAll("button, input, select, textarea, meter, progress"),
].filter((one) => one.checkVisibility())
  .filter((one) => !one.textContent.trim() && !one.labels?.length
    && !one.ariaLabel && !one.getAttribute("aria-labelledby"))
  .map((one) => one.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_fits_and_can_be_read(visit: Open, page_server: Server, width: int, scheme: str) -> None:
    """Texts, long words too, against what is behind them; nothing wider than the window."""
    page = visit(page_server.url, width=width, scheme=scheme)
    page.wait_for_selector(VIEWS["compare"])
    page.click("summary")
    page.locator("#compared textarea").first.fill("Donaudampfschifffahrtsgesellschaft" * 3)
    for view in VIEWS:
        show(page, view)
        if view == "tokens":
            page.click("#long-text")
            page.wait_for_selector("#pieces .cut")
        if view == "map":
            page.focus("#plot")
            page.keyboard.press("ArrowUp")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 20
        assert [one for one in found if one[0] < LEAST_CONTRAST] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
        assert page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_clusters_stand_out(visit: Open, page_server: Server, scheme: str) -> None:
    """WCAG asks for 3 of graphics; each colour is its own."""
    page = visit(page_server.url, scheme=scheme)
    page.wait_for_selector(VIEWS["compare"])
    colours = page.evaluate(
        """() => {
          const made = document.createElement("div");
          made.className = "notice";
          document.querySelector("main").append(made);
          return Array.from({ length: 10 }, (_, k) => {
            const one = document.createElement("button");
            one.textContent = "x";
            one.style.color = `var(--group-${k})`;
            one.style.background = "var(--raised)";
            made.append(one);
            return getComputedStyle(one).color;
          });
        }"""
    )
    assert len(set(colours)) == 10
    ratios = [one[0] for one in page.evaluate(CONTRASTS) if one[1].endswith(" x")]
    assert len(ratios) == 10
    assert min(ratios) >= 3


def test_all_of_it_is_reached_by_keyboard(page: Page) -> None:
    page.focus("#tab-compare")
    for key, view in (("ArrowRight", "search"), ("End", "tokens"), ("ArrowRight", "compare")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{view}"
        expect(page.locator(f"#{view}")).to_be_visible()
        assert page.locator("main > [role=tabpanel]:visible").count() == 1
        assert page.locator("#tabs [aria-selected=true]").count() == 1
    seen = []
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"add-text", "BUTTON", "TEXTAREA", "language-curl", "copy", "model"} <= set(seen)


def test_what_screen_readers_are_told(page: Page) -> None:
    expect(page.get_by_role("tab", name="Compare")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("textbox", name="Text 1", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Texts 1 and 2: 0.", exact=False)).to_be_visible()
    expect(page.get_by_role("table", name="Cosine similarity of each two texts")).to_be_visible()
    page.click("#tab-search")
    expect(page.get_by_role("searchbox", name="Search by meaning")).to_be_visible()
    expect(page.get_by_role("textbox", name="Your texts")).to_be_visible()
    page.click("#tab-map")
    expect(page.get_by_role("application", name="Map of 36 texts")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en"


def test_it_works_without_the_internet(visit: Open, page_server: Server) -> None:
    """With every other host out of reach; `visit` sees that none is asked for either."""
    page = visit(page_server.url)
    page.context.route(lambda url: not url.startswith(page_server.url), lambda route: route.abort())
    page.reload()
    for view in VIEWS:
        show(page, view)
