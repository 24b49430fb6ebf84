"""What the views of the page show is true: it is held against the client's own results."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.page.conftest import Open, show
from tests.serving import Server
from unitvec_client import Client

MINUS = "\N{MINUS SIGN}"
HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\"> </script><b>bold</b> \u2028 ' \" \\ $HOME `id`"
)


def compared(page: Page) -> list[str]:
    """The texts that are compared."""
    boxes = page.locator("#compared textarea").all()
    return [text for box in boxes if (text := box.input_value().strip())]


def heat(page: Page) -> np.ndarray:
    """The heat map, as numbers."""
    rows = page.locator("#heat tbody tr").all()
    cells = [
        [cell.inner_text().replace(MINUS, "-") for cell in row.locator("td").all()] for row in rows
    ]
    return np.array(cells, dtype=float)


def expect_heat(page: Page, wanted: np.ndarray, *, tolerance: float = 0.0051) -> None:
    """Waits for a heat map of this many texts, and holds it against scores."""
    count = len(wanted)
    expect(page.locator("#heat tbody tr")).to_have_count(count)
    first = f"{wanted[0, 1]:.2f}".replace("-", MINUS)
    if tolerance < 0.01:
        expect(page.locator("#heat [data-pair='0-1']")).to_have_text(first)
    assert np.abs(heat(page) - wanted).max() < tolerance


def test_samples_show_the_point_at_once(page: Page, client: Client) -> None:
    texts = compared(page)
    expect_heat(page, client.similarity(texts, texts))
    told = page.locator("#insights p").all_inner_texts()
    assert told[0].startswith("Most alike: 1 and 2")
    assert told[0].endswith("They share no word.")
    assert "“bank”" in told[1]


def test_texts_are_added_changed_picked_and_removed(page: Page, client: Client) -> None:
    page.click("#add-text")
    page.keyboard.type("A dog barks")
    texts = [*compared(page)]
    expect_heat(page, client.similarity(texts, texts))
    page.click("#heat [data-pair='6-0']")
    expect(page.locator("#insights p")).to_have_count(1)
    assert page.locator("#insights p").inner_text().startswith("7 and 1")
    assert page.evaluate("document.activeElement.dataset.pair") == "6-0"
    while len(texts) > 2:
        page.click("#compared li:first-child button")
        texts = texts[1:]
        expect_heat(page, client.similarity(texts, texts))
    assert page.locator("#compared li:first-child button").is_disabled()
    page.locator("#compared textarea").first.fill("")
    expect(page.locator("#insights")).to_have_text("Write a second text to compare.")
    page.click("#sample-compared")
    expect(page.locator("#heat tbody tr")).to_have_count(6)


def test_options_are_those_of_the_server(page: Page, client: Client) -> None:
    texts = compared(page)
    page.click("summary")
    page.locator("#dimensions").fill("64")
    expect_heat(page, client.similarity(texts, texts, dimensions=64))
    assert "64 dimensions, float32, 256 bytes" in page.inner_text("#options-now")
    vectors = client.embed(texts, dimensions=64)
    codes = np.rint(vectors / (np.abs(vectors).max(axis=1, keepdims=True) / 127))
    signs = np.where(vectors > 0, 1.0, -1.0)
    forms = {"float16": vectors.astype(np.float16).astype(float), "int8": codes, "binary": signs}
    for dtype, rounded in forms.items():
        page.select_option("#dtype", dtype)
        unit = rounded / np.linalg.norm(rounded, axis=1, keepdims=True)
        expect_heat(page, unit @ unit.T)


def test_models_and_their_prompts_are_offered(page: Page, client: Client) -> None:
    texts = compared(page)
    assert page.locator(".prompts").first.is_hidden()
    page.select_option("#model", "tiny")
    page.click("summary")
    for prompt in ("passage", "query", ""):
        page.select_option("#prompt", prompt)
        expect_heat(page, client.similarity(texts, texts, model="tiny", prompt_name=prompt))
    page.select_option("#prompt", "=")  # the model's default
    expect_heat(page, client.similarity(texts, texts, model="tiny"))
    show(page, "search")
    page.select_option("#prompt", "passage")
    page.select_option("#query-prompt", "query")
    corpus = page.input_value("#corpus").split("\n")
    query = client.embed([page.input_value("#query")], model="tiny", prompt_name="query")
    wanted = client.embed(corpus, model="tiny", prompt_name="passage") @ query[0]
    expect(page.locator("#results .score").first).to_have_text(f"{wanted.max():.3f}")


def test_search_finds_by_meaning_while_it_is_typed(page: Page, client: Client) -> None:
    show(page, "search")
    corpus = page.input_value("#corpus").split("\n")
    assert page.locator("#results li").first.inner_text().startswith("Why does my invoice")
    page.fill("#query", "")
    expect(page.locator("#results li")).to_have_count(0)
    page.locator("#query").press_sequentially("please refund me", delay=15)
    scores = client.similarity(["please refund me"], corpus)[0]
    wanted = [corpus[i] for i in np.argsort(-scores, kind="stable")[:10]]
    expect(page.locator("#results li > :first-child")).to_have_text(wanted)
    assert wanted[0] == "I would like my money back"


def test_files_of_thousands_are_embedded_with_progress(
    page: Page, client: Client, tmp_path: Path
) -> None:
    page.select_option("#model", "tiny")
    show(page, "search")
    lines = tmp_path / "lines.txt"
    texts = [f"text number {number} of many" for number in range(3000)]
    lines.write_text("\n".join(texts))
    page.evaluate(
        """() => new MutationObserver(() => {
          if (!document.getElementById("progress").hidden) window.seen = true;
        }).observe(document.getElementById("progress"), { attributes: true })"""
    )
    page.set_input_files("#corpus-file", lines)
    expect(page.locator("#found")).to_have_text("The 10 nearest of 3,000 texts")
    assert page.evaluate("window.seen") is True
    show(page, "map")
    expect(page.locator("#plot")).to_have_attribute("aria-label", re.compile("^Map of 3000 texts"))


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        (
            "a.jsonl",
            '{"id": "1", "text": "one"}\n"two"\n{"title": "three here"}',
            "one|two|three here",
        ),
        ("a.json", '["one", {"text": "two\\nlines"}]', "one|two lines"),
        ("a.csv", "one\n\n two \none", "one|two"),
        ("a.csv", "one, and more\ntwo, or, three\nfour", "one, and more|two, or, three|four"),
        (
            "a.csv",
            'id,text\r\n1,"one, ""quoted"""\r\n2,"two\nlines"\r\n',
            'one, "quoted"|two lines',
        ),
        ("A.CSV", "a long text;7\nanother;12345", "a long text|another"),
        ("a.tsv", 'text\tid\n5" pipe\t1\nfive, "six"\t2\n', '5" pipe|five, "six"'),
        ("a.csv", '"never closed\nb', '"never closed|b'),
    ],
)
def test_dropped_files_are_read(page: Page, name: str, content: str, wanted: str) -> None:
    show(page, "search")
    drop(page, name, content.encode())
    expect(page.locator("#corpus-count")).to_have_text(str(wanted.count("|") + 1))
    expect(page.locator("#results li")).to_have_count(wanted.count("|") + 1)
    found = page.locator("#results li > :first-child").all_inner_texts()
    assert sorted(found) == sorted(wanted.split("|"))


def drop(page: Page, name: str, content: bytes) -> None:
    """Drops a file on the texts."""
    moved = page.evaluate_handle(
        """([name, bytes]) => {
          const moved = new DataTransfer();
          moved.items.add(new File([new Uint8Array(bytes)], name));
          return moved;
        }""",
        [name, list(content)],
    )
    page.dispatch_event("#corpus", "drop", {"dataTransfer": moved})


def test_files_that_are_no_text_are_refused_in_words(page: Page) -> None:
    show(page, "search")
    drop(page, "a.txt", b"\xff\xfe\x00")
    expect(page.locator("#error")).to_contain_text("a.txt is no text in UTF-8")
    drop(page, "a.json", b"[1,")
    expect(page.locator("#error")).to_contain_text("not the JSON that its name says")


def test_the_map_shows_true_neighbours(page: Page, client: Client) -> None:
    show(page, "map")
    corpus = page.input_value("#corpus").split("\n")
    vectors = client.embed(corpus)
    box = page.locator("#plot").bounding_box()
    assert box is not None
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    seen = []
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft"):
        expect(page.locator("#neighbours li")).to_have_count(8)
        seen.append(page.inner_text("#neighbours .selected"))
        chosen = corpus.index(seen[-1])
        scores = vectors @ vectors[chosen]
        scores[chosen] = -1
        wanted = [corpus[i] for i in np.argsort(-scores)[:8]]
        assert page.locator("#neighbours button").all_inner_texts() == wanted
        page.keyboard.press(key)
    assert len(set(seen)) > 1
    page.locator("#neighbours button").first.click()
    page.focus("#plot")
    page.keyboard.press("Escape")
    expect(page.locator("#neighbours li")).to_have_count(0)
    page.select_option("#clusters", "4")
    expect(page.locator("#legend i")).to_have_count(4)


def test_a_click_chooses_the_point_under_it(page: Page) -> None:
    """The tip of a point is shown 14 pixels below its middle."""
    show(page, "map")
    page.focus("#plot")
    page.keyboard.press("ArrowUp")
    text = page.inner_text("#neighbours .selected")
    tip = page.locator("#tip").bounding_box()
    assert tip is not None
    page.keyboard.press("Escape")
    expect(page.locator("#neighbours .selected")).to_have_count(0)
    page.mouse.click(tip["x"] + tip["width"] / 2, tip["y"] - 14)
    expect(page.locator("#neighbours .selected")).to_have_text(text)


def test_the_projection_is_that_of_numpy_and_always_the_same(page: Page) -> None:
    """Against the singular value decomposition; clusters that are far apart are found."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(3, 24)) * 4
    vectors = np.concatenate([centre + random.normal(size=(40, 24)) for centre in centres])
    code = """async (rows) => {
      const file = new URL("page/projection.js", location);
      const { project, cluster, inSlices } = await import(file);
      const vectors = rows.map((row) => Float32Array.from(row));
      const { signal } = new AbortController();
      const points = await inSlices(project(vectors), signal);
      return [points, await inSlices(cluster(vectors, 3), signal)];
    }"""
    points, groups = page.evaluate(code, vectors.tolist())
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    wanted = centred @ axes[:2].T
    signs = np.sign((wanted * np.array(points)).sum(axis=0))
    assert np.abs(np.array(points) - wanted * signs).max() < 0.02
    numbers = np.array(groups["numbers"]).reshape(3, 40)
    assert (numbers == numbers[:, :1]).all()
    assert len(set(numbers[:, 0])) == 3
    assert page.evaluate(code, vectors.tolist()) == [points, groups]


def test_tokens_and_what_is_cut(page: Page, client: Client) -> None:
    show(page, "tokens")
    expect(page.locator("#token-count")).to_contain_text("the model reads all of it")
    assert page.locator("#pieces .cut").count() == 0
    page.click("#long-text")
    read = client.tokenize(page.input_value("#tokenized"))
    cut = len(read.tokens) - read.kept_tokens
    expect(page.locator("#token-count")).to_contain_text(f"{cut:,} are cut off")
    expect(page.locator("#pieces .cut")).to_have_count(cut)
    page.fill("#tokenized", HOSTILE)
    expect(page.locator("#pieces")).to_contain_text("onerror")
    whole = page.locator("#pieces span:not(.special)").all_inner_texts()
    assert "".join("".join(whole).split()) == "".join(HOSTILE.split())


def test_texts_of_users_stay_texts(page: Page) -> None:
    """In every view, and in every call to copy."""
    title = page.title()
    page.locator("#compared textarea").first.fill(HOSTILE)
    show(page, "search")
    page.fill(
        "#corpus", "\n".join([HOSTILE.replace("\u2028", ""), "<i>other</i>", "a cat", "a dog"])
    )
    page.fill("#query", HOSTILE)
    expect(page.locator("#results li > :first-child").first).to_contain_text("onerror")
    show(page, "map")
    page.focus("#plot")
    for key in ("ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    for language in ("python", "openai", "curl"):
        page.click(f"#language-{language}")
    assert page.title() == title
    assert page.locator("main img, main b b, main i i").count() == 0


def test_errors_are_in_plain_words(visit: Open, artifact: Path, start: object) -> None:
    server: Server = start("--model", str(artifact), "--http-port", "0")  # type: ignore[operator]
    page = visit(server.url, may_fail=True)
    page.wait_for_selector("#insights b")
    page.route("**/v1/embeddings", lambda route: route.abort())
    page.locator("#compared textarea").first.fill("something new")
    expect(page.locator("#error")).to_contain_text("The server does not answer")
    page.unroute("**/v1/embeddings")
    page.locator("#compared textarea").first.fill("something else")
    expect(page.locator("#error")).to_be_hidden()


def test_vectors_of_two_models_are_never_mixed(
    visit: Open, artifact: Path, prompted_artifact: Path, start: object, tmp_path: Path
) -> None:
    """Where the model of a name is exchanged while the page has vectors of the old one."""
    folder = tmp_path / "current"
    folder.symlink_to(artifact)
    server: Server = start("--model", f"current={folder}", "--http-port", "0")  # type: ignore[operator]
    page = visit(server.url, may_fail=True)
    page.wait_for_selector("#insights b")
    folder.unlink()
    folder.symlink_to(prompted_artifact)
    server.process.send(signal.SIGHUP)
    server.process.wait_for_log("model current: switched")
    page.locator("#compared textarea").first.fill("something new")
    expect(page.locator("#error")).to_contain_text("another model under that name")
    page.reload()
    page.wait_for_selector("#insights b")
    expect(page.locator("#error")).to_be_hidden()


def test_after_a_failure_nothing_more_is_sent(visit: Open, page_server: Server) -> None:
    page = visit(page_server.url, may_fail=True)
    show(page, "search")
    asked: list[str] = []
    page.route("**/v1/embeddings", lambda route: (asked.append("one"), route.abort()))
    page.fill("#corpus", "\n".join(f"text {number}" for number in range(2000)))
    expect(page.locator("#error")).to_contain_text("The server does not answer")
    page.unroute("**/v1/embeddings")
    page.click("#sample-corpus")
    page.fill("#query", "cake")
    expect(page.locator("#found")).to_have_text("The 10 nearest of 36 texts")
    assert len(asked) <= 2


def test_a_token_is_asked_for_and_stored_nowhere(
    visit: Open, artifact: Path, start: object
) -> None:
    variables = {"UNITVEC_TOKENS": "secret"}
    server: Server = start("--model", str(artifact), "--http-port", "0", variables=variables)  # type: ignore[operator]
    page = visit(server.url, may_fail=True)
    expect(page.locator("#token")).to_be_focused()
    expect(page.locator("#error")).to_be_hidden()
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#error")).to_contain_text("that one is not right")
    page.fill("#token", "secret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#insights b")
    assert page.locator("#token-form").is_hidden()
    stored = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    assert json.loads(stored) == [{}, {}, ""]
    for language in ("curl", "python", "openai"):
        page.click(f"#language-{language}")
        code = page.inner_text("#code")
        assert "UNITVEC_TOKEN" in code
        assert "secret" not in code
