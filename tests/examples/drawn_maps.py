"""What a browser has really drawn of a map: read from its SVG and from Plotly's WebGL scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from playwright.sync_api import Page

MARKS = ("matches", "lines", "neighbours", "selected")

_DRAWN = """() => [...document.querySelectorAll('.scatterlayer .trace')].map((trace, t) => {
  const centre = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
  const points = [...trace.querySelectorAll('path.point')];
  const ends = [...trace.querySelectorAll('path.js-line')].flatMap((line) =>
    [0, line.getTotalLength()].map((at) => {
      const { x, y } = line.getPointAtLength(at).matrixTransform(line.getScreenCTM());
      return [x, y];
    }));
  const { name, customdata } = plot.data[t];
  return [name, customdata, [...points.map((p) => centre(p.getBoundingClientRect())), ...ends]];
})"""
"""Name, texts and points, in pixels, of all that is drawn in 2-D."""

_DRAWN_3D = """() => plot._fullLayout.scene._scene.glplot.objects.map((drawn) => {
  const { name, customdata } = drawn._trace.data;
  return [name, customdata, drawn.points];
})"""
"""The same in 3-D, in units of the scene, as the graphics card has it."""

_PIXELS_3D = """() => {
  const scene = plot._fullLayout.scene._scene;
  const { model, view, projection } = scene.glplot.cameraParams;
  const times = (m, v) => [0, 1, 2, 3].map((r) => v.reduce((s, x, c) => s + m[4 * c + r] * x, 0));
  const box = plot.querySelector('.gl-container canvas, #scene canvas').getBoundingClientRect();
  return plot.data.flatMap((trace) => trace.customdata.map((index, k) => {
    const at = [...['x', 'y', 'z'].map((axis, a) => trace[axis][k] * scene.dataScale[a]), 1];
    const [x, y, , w] = times(projection, times(view, times(model, at)));
    return [index, box.x + box.width * (1 + x / w) / 2, box.y + box.height * (1 - y / w) / 2];
  }));
}"""
"""Text, x and y of every point in 3-D, by the matrices with which Plotly draws."""

_FILLS = """() => [...document.querySelectorAll('.scatterlayer .trace')].flatMap((trace, t) =>
  [...trace.querySelectorAll('path.point')].map(
    (point, k) => [plot.data[t].customdata[k], getComputedStyle(point).fill]))"""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A map as it is drawn, in pixels in 2-D and in units of the scene in 3-D.

    Attributes:
        points: (n, 2) or (n, 3), by index of the text.
        marks: Points of each of MARKS that is drawn; of lines, where each starts and ends.
    """

    points: np.ndarray
    marks: dict[str, np.ndarray]


def drawn(page: Page, dims: str = "2") -> Drawn:
    """Returns what the page shows now; each text must be drawn once."""
    traces = page.evaluate(_DRAWN if dims == "2" else _DRAWN_3D)
    rows = sorted(
        (index, point)
        for name, texts, points in traces
        if name not in MARKS
        for index, point in zip(texts, points, strict=True)
    )
    assert [index for index, _ in rows] == list(range(len(rows)))
    marks = {name: _unbroken(points) for name, _, points in traces if name in MARKS}
    return Drawn(np.array([point for _, point in rows]), marks)


def _unbroken(points: list[list[float]]) -> np.ndarray:
    """Returns the points without those that break a line, which are no numbers."""
    return np.array([point for point in points if not np.isnan(point).any()])


def pixels_3d(page: Page) -> np.ndarray:
    """Returns where on the screen the points of a map in 3-D are: (n, 2), by index of the text."""
    return np.array(sorted(page.evaluate(_PIXELS_3D)))[:, 1:]


def fills(page: Page) -> dict[int, str]:
    """Returns the colour of each text's point in 2-D, where nothing is marked."""
    return dict(page.evaluate(_FILLS))
