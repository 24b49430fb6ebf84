"""Takes the pictures of the page at `/` again, from a server of all-MiniLM-L6-v2 with an HTTP port.

    make serve ARGS='--http-port 8080'
    python docs/pictures.py http://localhost:8080

Needs playwright (extra `dev`) and a Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
HEIGHT = 860
COLOURS = 96
"""Of a picture, which keeps it small."""


def picture(browser: Browser, url: str, view: str, *, width: int, scheme: str) -> None:
    """Writes one picture of a view, as someone sees who has just opened it.

    Args:
        browser: The browser.
        url: Where the page is.
        view: One of compare, search, map and tokens.
        width: Of the window, in pixels.
        scheme: light or dark.
    """
    dark = {"color_scheme": scheme}
    page: Page = browser.new_page(viewport={"width": width, "height": HEIGHT}, **dark)  # type: ignore[arg-type]
    page.goto(url)
    page.click(f"#tab-{view}")
    if view == "map":
        page.wait_for_selector("#legend i")
        page.focus("#plot")
        for key in ("ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
    if view == "tokens":
        page.click("#long-text")
        page.wait_for_selector("#pieces .cut")
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot(animations="disabled")))
    shot.convert("RGB").quantize(COLOURS).save(IMAGES / f"page-{view}.png", optimize=True)
    page.close()


def main() -> None:
    """Writes all pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", help="where the page is, such as http://localhost:8080")
    url = parser.parse_args().url
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        picture(browser, url, "compare", width=1180, scheme="light")
        picture(browser, url, "search", width=390, scheme="dark")
        picture(browser, url, "map", width=1180, scheme="dark")
        picture(browser, url, "tokens", width=390, scheme="light")
        browser.close()


if __name__ == "__main__":
    main()
