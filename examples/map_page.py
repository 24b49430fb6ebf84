"""One HTML page of interactive maps that needs nothing but itself: no server, no network.

Where `map_server` serves it, its search finds by meaning.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpora import Gloss

PARTS = Path(__file__).parent / "maps_page"
MAX_PAGE_BYTES = 8 * 2**20
"""Plotly takes 4.6 MiB of it, a text about 500 bytes."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The k nearest neighbours of each of n texts, the nearest first.

    Attributes:
        indices: int (n, k), of texts.
        cosines: float (n, k), with them.
    """

    indices: NDArray[np.integer[Any]]
    cosines: NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Map:
    """Where one method puts the texts, and how faithful that is.

    Attributes:
        method: Such as "UMAP".
        points: float (n, 2) or (n, 3), without a unit.
        trustworthiness: 1 where no text has a neighbour in the map that is far from it in truth.
        kept: Share of true neighbours that are among the nearest in the map, 0 to 1.
    """

    method: str
    points: NDArray[np.floating[Any]]
    trustworthiness: float
    kept: float

    @property
    def dims(self) -> int:
        """2 or 3."""
        return int(self.points.shape[1])


@dataclass(frozen=True, eq=False)
class Groups:
    """Into which group each of n texts falls.

    Attributes:
        numbers: int (n,), of groups.
        names: Of each group, for the legend.
    """

    numbers: NDArray[np.integer[Any]]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Atlas:
    """All that the page shows.

    Attributes:
        glosses: The n texts.
        dimensions: Of their vectors.
        neighbours: By cosine of the vectors.
        groups: By "category" and by "cluster".
        maps: PCA, t-SNE and UMAP, each in 2-D and 3-D.
    """

    glosses: Sequence[Gloss]
    dimensions: int
    neighbours: Neighbours
    groups: dict[str, Groups]
    maps: Sequence[Map]


def render(atlas: Atlas) -> str:
    """Returns the page as HTML, with Plotly inside.

    Raises:
        ValueError: The page would take more than MAX_PAGE_BYTES.
    """
    from plotly.offline import get_plotlyjs

    plotly, code = get_plotlyjs(), _part("page.js")
    page = Template(_part("page.html")).substitute(
        policy=_policy(plotly, code),
        style=_part("page.css"),
        data=_json_for_html(_data(atlas)),
        plotly=plotly,
        code=code,
    )
    size = len(page.encode())
    if size > MAX_PAGE_BYTES:
        raise ValueError(f"the page would take {size} bytes; {MAX_PAGE_BYTES} is the most")
    return page


def _part(name: str) -> str:
    return (PARTS / name).read_text("utf-8")


def _policy(*scripts: str) -> str:
    """Returns the browser's orders: run these scripts alone, ask only who serves it."""
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()) for each in scripts)
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    style = "style-src 'unsafe-inline'"  # Plotly styles what it draws.
    rest = "img-src data: blob:; connect-src 'self'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {style}; {rest}"


def _json_for_html(value: Any) -> str:
    # Without "<" no text can end the script element that holds it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", r"\u003c")


def _data(atlas: Atlas) -> dict[str, Any]:
    return {
        "dimensions": atlas.dimensions,
        "words": [", ".join(gloss.words) for gloss in atlas.glosses],
        "texts": [gloss.text for gloss in atlas.glosses],
        "groups": {
            kind: {"names": groups.names, "numbers": groups.numbers.tolist()}
            for kind, groups in atlas.groups.items()
        },
        "neighbours": atlas.neighbours.indices.tolist(),
        "cosines": atlas.neighbours.cosines.astype(float).round(4).tolist(),
        "maps": [_map(each) for each in atlas.maps],
    }


def _map(one: Map) -> dict[str, Any]:
    # Five digits are finer than any screen.
    centred = one.points.astype(float) - one.points.mean(axis=0)
    scaled = 100 * centred / np.abs(centred).max()
    return {
        "method": one.method,
        "dims": one.dims,
        "trustworthiness": one.trustworthiness,
        "kept": one.kept,
        "axes": scaled.T.round(3).tolist(),
    }
