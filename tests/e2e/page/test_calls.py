"""The calls that the page offers to copy run as they are pasted, and say what the page shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import VIEWS, Open, show
from tests.serving import Server
from unitvec_client import Client

HOSTILE = 'it\'s "quoted" \\ $HOME `id` \N{SNOWMAN} \N{GRINNING FACE} </script>\u2028'


def copy(page: Page, language: str) -> str:
    """Copies the call."""
    page.click(f"#language-{language}")
    page.evaluate("navigator.clipboard.writeText('')")
    page.click("#copy")
    expect(page.locator("#copy")).to_have_text("Copied")
    return str(page.evaluate("navigator.clipboard.readText()"))


def paste(language: str, code: str, folder: Path, token: str = "") -> str:
    """Runs a call in a shell or as a program."""
    file = folder / "pasted"
    file.write_text(code, encoding="utf-8")
    command = ["bash", str(file)] if language == "curl" else [sys.executable, str(file)]
    variables = {"PATH": "/usr/bin:/bin", "UNITVEC_TOKEN": token, "PYTHONUTF8": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=variables
    )
    assert done.returncode == 0, code + done.stdout + done.stderr
    return done.stdout


def vectors_of(printed: str) -> list[np.ndarray]:
    """The vectors of replies of OpenAI's API, one after the other."""
    decoder, found = json.JSONDecoder(), []
    while printed.strip():
        reply, end = decoder.raw_decode(printed.strip())
        printed = printed.strip()[end:]
        found.append(np.array([one["embedding"] for one in reply["data"]], np.float32))
    return found


def numbers_of(printed: str) -> np.ndarray:
    """All numbers that were printed."""
    return np.array(re.findall(r"-?\d+\.\d*(?:e-?\d+)?", printed), dtype=float)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl(page: Page, client: Client, tmp_path: Path) -> None:
    texts = [HOSTILE.strip(), "a cat", "a dog"]
    page.locator("#compared textarea").first.fill(HOSTILE)
    expect(page.locator("#code")).to_contain_text("SNOWMAN".replace("SNOWMAN", "\N{SNOWMAN}"))
    compared = [box.input_value().strip() for box in page.locator("#compared textarea").all()]
    [found] = vectors_of(paste("curl", copy(page, "curl"), tmp_path))
    assert found.tobytes() == client.embed(compared).tobytes()
    show(page, "search")
    page.fill("#corpus", "\n".join(texts[1:]))
    expect(page.locator("#results li")).to_have_count(2)
    query, corpus = vectors_of(paste("curl", copy(page, "curl"), tmp_path))
    assert query.tobytes() == client.embed(["I was billed twice"]).tobytes()
    assert corpus.tobytes() == client.embed(texts[1:]).tobytes()
    show(page, "tokens")
    [tokens] = json.loads(paste("curl", copy(page, "curl"), tmp_path))
    assert len(tokens) == page.locator("#pieces span").count()


@pytest.mark.parametrize("language", ["python", "openai"])
def test_programs(page: Page, tmp_path: Path, language: str) -> None:
    page.locator("#compared textarea").first.fill(HOSTILE)
    page.click("summary")
    page.locator("#dimensions").fill("128")
    expect(page.locator("#code")).to_contain_text("\N{SNOWMAN}")
    printed = numbers_of(paste(language, copy(page, language), tmp_path)).reshape(6, 6)
    shown = page.locator("#heat td > *").all_inner_texts()
    wanted = np.array([one.replace("\N{MINUS SIGN}", "-") for one in shown], dtype=float)
    assert np.abs(printed - wanted.reshape(6, 6)).max() < 0.011
    show(page, "search")
    page.fill("#corpus", "a cat\na dog\nmy invoice")
    expect(page.locator("#results li")).to_have_count(3)
    lines = paste(language, copy(page, language), tmp_path).splitlines()
    rows = page.locator("#results li").all()
    found = [
        f"{row.locator('.score').inner_text()} {row.locator('> *').first.inner_text()}"
        for row in rows
    ]
    assert [line.split(" ", 1)[1] for line in lines] == [one.split(" ", 1)[1] for one in found]
    assert np.allclose(numbers_of("\n".join(lines)), numbers_of("\n".join(found)), atol=0.0011)
    show(page, "map")
    assert "(3, 128)" in paste(language, copy(page, language), tmp_path)


def test_python_tokens_and_number_types(page: Page, client: Client, tmp_path: Path) -> None:
    show(page, "tokens")
    text = page.input_value("#tokenized")
    printed = paste("python", copy(page, "python"), tmp_path)
    assert printed.splitlines() == [
        str(client.tokenize(text).tokens),
        str(client.tokenize(text).kept_tokens),
    ]
    page.click("summary")
    for dtype in ("float16", "int8", "binary"):
        page.select_option("#dtype", dtype)
        for view in ("compare", "search", "map"):
            show(page, view)
            assert "shape" in (code := copy(page, "python"))
            assert paste("python", code, tmp_path).startswith("(")


@pytest.mark.parametrize("language", ["curl", "python", "openai"])
def test_other_models_prompts_and_tokens(
    visit: Open, start: object, prompted_artifact: Path, tmp_path: Path, language: str
) -> None:
    """The second model, with prompts, of a server that wants a token."""
    models = ("--model", f"a={prompted_artifact}", "--model", f"b={prompted_artifact}")
    variables = {"UNITVEC_TOKENS": "secret"}
    server: Server = start(*models, "--http-port", "0", variables=variables)  # type: ignore[operator]
    page = visit(server.url, may_fail=True)
    page.fill("#token", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector(VIEWS["compare"])
    page.select_option("#model", "b")
    page.click("summary")
    page.select_option("#prompt", "passage")
    page.select_option("#query-prompt", "query")
    show(page, "search")
    page.fill("#corpus", "a cat\na dog\nmy invoice")
    expect(page.locator("#results li")).to_have_count(3)
    printed = paste(language, copy(page, language), tmp_path, "secret")
    if language == "curl":
        query, corpus = vectors_of(printed)
        scores = np.sort(corpus @ query[0])[::-1]
    else:
        scores = numbers_of(printed)
    shown = page.locator("#results .score").all_inner_texts()
    assert np.abs(scores - np.array(shown, dtype=float)).max() < 0.0011
