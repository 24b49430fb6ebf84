"""A model that is replaced again and again under the callers of a server."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.chaos.expected import Known, learn
from tests.chaos.load import Callers, embed, embed_batch, search, similarity, stream
from tests.chaos.replica import Replica, replicas
from tests.chaos.stage import Outcome, Stage
from unitvec_client import AsyncClient, RetryPolicy

_PROMPT = {"prompts": {"other": "another model: "}, "default_prompt_name": "other"}
"""What the manifest of the other model says: a prompt is another space, and moves all vectors."""
_REPLY_TEXTS = 16
"""Most texts of one request, so that some calls of a client are several."""
_POLL_S = 0.05
_SWITCH_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Either(Known):
    """Known texts whose vectors are those of one model or of another, but never mixed.

    Attributes:
        other: What the other model makes of the same texts.
        spaces: The space of each model.
    """

    other: Known
    spaces: tuple[str, str]

    def are_vectors(self, vectors: NDArray[np.float32], indices: list[int]) -> bool:  # type: ignore[override]
        """Whether these are vectors of one model."""
        own = super().are_vectors(vectors, indices)
        return own or self.other.are_vectors(vectors, indices)

    def are_scores(  # type: ignore[override]
        self, scores: NDArray[np.float32], rows: list[int], columns: list[int]
    ) -> bool:
        """Whether these are cosines of one model."""
        own = super().are_scores(scores, rows, columns)
        return own or self.other.are_scores(scores, rows, columns)

    def are_of(self, space: str, vectors: NDArray[np.float32], indices: list[int]) -> bool:
        """Whether these are the vectors of the model that a reply names."""
        if space == self.spaces[0]:
            return super().are_vectors(vectors, indices)
        return space == self.spaces[1] and self.other.are_vectors(vectors, indices)


async def embed_named(client: AsyncClient, known: Known, choice: random.Random) -> bool:
    """All known texts: each result is of the model that it names."""
    assert isinstance(known, Either)
    indices = list(range(len(known.texts)))
    choice.shuffle(indices)
    result = await client.embed_result(known.pick(indices))
    return known.are_of(result.space, result.vectors, indices)


KINDS = {embed: 4, embed_named: 2, embed_batch: 1, stream: 2, similarity: 2, search: 1}


async def reload_often(stage: Stage) -> Outcome:
    """SIGHUP after each exchange of the model's folder: nothing is lost, no reply is mixed."""
    outcome = Outcome("the model replaced again and again by SIGHUP")
    with tempfile.TemporaryDirectory() as name:
        folders = (stage.launch.artifact.resolve(), _prompted(stage.launch.artifact, Path(name)))
        known, link = await _learn(stage, folders[1]), Path(name) / "current"
        _point(link, folders[0])
        launch = replace(stage.small, artifact=link).with_args(
            "--max-texts-per-request", str(_REPLY_TEXTS)
        )
        async with (
            replicas(launch) as (server,),
            AsyncClient(server.target, retry=RetryPolicy(max_attempts=10)) as client,
            Callers(client, known, outcome.tally, stage.scale.callers, KINDS, stage.seed),
        ):
            for number in range(1, stage.scale.reloads + 1):
                # A call that meets two changes fails, as it should: several calls lie between them.
                await outcome.tally.more(8 * stage.scale.callers)
                _point(link, folders[number % 2])
                took_s = await _reload(server, client, known.spaces[number % 2])
                outcome.recovery_s = max(outcome.recovery_s or 0.0, took_s)
                if number == 2:  # both models were there together by now
                    before = server.weigh()
            await outcome.tally.more(stage.scale.answers)
            outcome.weigh(before, server.weigh())
    outcome.figures["reloads"] = stage.scale.reloads
    return outcome


async def _reload(server: Replica, client: AsyncClient, space: str) -> float:
    """Asks for a reload, and waits until the server has vectors of this space: seconds."""
    started_s = time.monotonic()
    server.send(signal.SIGHUP)
    async with asyncio.timeout(_SWITCH_TIMEOUT_S):
        while (await client.models()).models[0].space != space:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(_POLL_S)
    return time.monotonic() - started_s


async def _learn(stage: Stage, folder: Path) -> Either:
    """What both models make of the same texts, and of which space each is."""
    known, spaces = [], []
    for artifact in (stage.launch.artifact, folder):
        async with (
            replicas(replace(stage.small, artifact=artifact)) as (server,),
            AsyncClient(server.target) as client,
        ):
            spaces.append((await client.models()).models[0].space)
            known.append(await learn(server.target, stage.known.texts))
    first = known[0]
    return Either(first.texts, first.vectors, first.tokens, known[1], (spaces[0], spaces[1]))


def _prompted(artifact: Path, folder: Path) -> Path:
    """The same model with a prompt before each text."""
    copy = folder / "prompted"
    shutil.copytree(artifact, copy)
    manifest = copy / "manifest.json"
    content = json.loads(manifest.read_text("utf-8")) | _PROMPT
    manifest.write_text(json.dumps(content), "utf-8")
    return copy


def _point(link: Path, folder: Path) -> None:
    new = link.with_suffix(".new")
    new.symlink_to(folder)
    new.replace(link)
