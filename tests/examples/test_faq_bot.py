"""The bot answers what its answers are about, knows what it does not know, and tells the truth."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from sklearn.metrics.pairwise import cosine_similarity

import faq_bot
from unitvec_client import Client

ROOT = Path(__file__).parents[2]

# None of these is in the data. Each with a part of the question whose answer it wants.
ASKED = {
    "Which command launches the service?": "start a server",
    "How can I call this from my Python program?": "from Python",
    "how similar are two sentences, can it tell?": "similarity of two",
    "I have ten million lines of text, will it fit in RAM?": "more texts than fit",
    "Could a Java application use it?": "languages other",
    "Will it run on a machine without network?": "offline",
    "Do I get identical embeddings to SBERT?": "same as those of sentence",
    "Do other sentences in the same request change my embedding?": "depend on the other",
    "How many times quicker than the original library is it?": "How fast",
    "Is quantization bad for the results?": "int8 cost",
    "Can I serve mpnet or e5?": "Which models",
    "How to prepare a model that I trained myself?": "export my own",
    "Does it run on an NVIDIA graphics card?": "GPU",
    "Will the same sentence be computed twice?": "cache",
    "max number of sentences per call": "How many texts",
    "What if my document exceeds the maximum sequence length?": "too long",
    "I get an OVERLOADED error, what now?": "overloaded",
    "How do I benchmark my server under traffic?": "load test",
    "What is the license of this software?": "licence",
    "How do I open it to the network instead of localhost only?": "listen on all",
    "How do I set up HTTPS-like encryption?": "enable TLS",
    "How do I swap in a new TLS certificate while it is running?": "renew the cert",
    "How do clients log in?": "token from callers",
    "An API token leaked, how do I change it?": "rotate",
    "Does it keep a record of what users send?": "logged",
    "How do I shut it down gracefully?": "stop the server",
    "the process exited with code 3": "exit status 3",
    "How many megabytes does the process use?": "much memory",
    "How do I scrape metrics?": "Prometheus",
    "Can I run it in a k8s cluster?": "Kubernetes",
    "How do I spread requests over many servers?": "balance load",
}
UNRELATED = (
    "What is the capital of France?",
    "How do I bake bread?",
    "Who won the football world cup?",
    "What is the weather tomorrow?",
    "How tall is Mount Everest?",
    "Can you write a poem about the sea?",
    "How do I lose weight?",
    "What time is it?",
    "Which phone should I buy?",
    "How do I repair a bicycle?",
    "How do I fine-tune a model on my data?",
    "Can it generate text like a chatbot?",
    "How do I translate text into German?",
    "Does it support images?",
    "Who are you?",
    "How do I install PostgreSQL?",
    "What does it cost per month?",
    "How do I cancel my subscription?",
)


@pytest.fixture(scope="module")
def bot(client: Client) -> faq_bot.FaqBot:
    return faq_bot.FaqBot(client, faq_bot.load_entries())


def test_other_words_find_the_answer(bot: faq_bot.FaqBot) -> None:
    replies = {question: bot.ask(question) for question in ASKED}
    right = [part in replies[question].closest.question for question, part in ASKED.items()]
    known = [reply.known for reply in replies.values()]
    assert sum(r and k for r, k in zip(right, known, strict=True)) >= 22
    assert sum(k and not r for r, k in zip(right, known, strict=True)) <= 3


@pytest.mark.parametrize("question", UNRELATED)
def test_does_not_know_what_it_was_not_told(bot: faq_bot.FaqBot, question: str) -> None:
    reply = bot.ask(question)
    assert not reply.known
    assert faq_bot.describe(reply).startswith("I do not know.")


def test_every_phrasing_finds_its_own_entry(bot: faq_bot.FaqBot) -> None:
    for entry in faq_bot.load_entries():
        for phrasing in (entry.question, *entry.also):
            reply = bot.ask(phrasing)
            assert reply.closest is not reply.next_closest
            assert reply.closest == entry
            assert reply.score == pytest.approx(1, abs=1e-5)


def test_scores_are_those_of_sentence_transformers(
    bot: faq_bot.FaqBot, reference_model: Any
) -> None:
    entries = faq_bot.load_entries()
    owners = [entry for entry in entries for _ in (entry.question, *entry.also)]
    phrasings = [text for entry in entries for text in (entry.question, *entry.also)]
    asked = list(ASKED)[:5]
    vectors = reference_model.encode([*asked, *phrasings])
    for question, row in zip(asked, cosine_similarity(vectors[:5], vectors[5:]), strict=True):
        best = {entry: row[[owner is entry for owner in owners]].max() for entry in entries}
        closest, following = sorted(best, key=lambda entry: -best[entry])[:2]
        reply = bot.ask(question)
        assert (reply.closest, reply.next_closest) == (closest, following)
        assert reply.score == pytest.approx(best[closest], abs=1e-5)
        assert reply.next_score == pytest.approx(best[following], abs=1e-5)


@pytest.mark.parametrize("entry", faq_bot.load_entries(), ids=lambda entry: entry.question)
def test_answers_name_what_the_documents_name(entry: faq_bot.Entry) -> None:
    name, _, section = entry.source.partition("#")
    document = (ROOT / name).read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", document, re.MULTILINE)
    assert section in {"", *(heading.lower().replace(" ", "-") for heading in headings)}
    pages = ("docs/configuration.md", "docs/errors.md")
    known = document + "".join((ROOT / page).read_text("utf-8") for page in pages)
    answer = entry.answer
    for flag in re.findall(r"--[a-z][a-z0-9-]+", answer):
        assert re.search(rf"{flag}(?![a-z0-9-])", known), flag
    for constant in re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", answer):
        assert constant in known, constant
    for path in re.findall(r"`([\w./-]+/[\w./-]+\.\w+)`", answer):
        assert (ROOT / path).exists(), path


def test_answers_given_questions(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    questions = ["--ask", "Are my texts logged?", "--ask", "How do I bake bread?"]
    assert faq_bot.main(["--target", target, *questions]) == 0
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert "never logged" in first
    assert "[sure, 1.00: Are my texts logged?" in first
    assert "I do not know." in second


def test_answers_typed_questions_until_the_end(
    target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Which licence?\n\nAre my texts logged?"))
    assert faq_bot.main(["--target", target]) == 0
    first, second = capsys.readouterr().out.strip().split("\n\n")
    assert "Apache-2.0" in first
    assert "never logged" in second


def test_threshold_is_the_callers(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--ask", "Which licence is it under, please?"]
    assert faq_bot.main(["--target", target, "--threshold", "0.999", *question]) == 0
    assert "I do not know." in capsys.readouterr().out
    assert faq_bot.main(["--target", target, "--threshold", "0.2", *question]) == 0
    assert "Apache-2.0" in capsys.readouterr().out
