// Points on a canvas: drawing, hovering, choosing with the mouse, a finger or the arrow keys.

const MARGIN = 28; // Pixels around the points.
const REACH = 22; // Pixels between a click and the point that it means.
const TIP_CHARS = 160;

export class Plot {
  #canvas;
  #tip;
  #onSelect;
  #texts = [];
  #points = [];
  #groups = [];
  #chosen = null;
  #near = [];

  constructor(canvas, tip, onSelect) {
    this.#canvas = canvas;
    this.#tip = tip;
    this.#onSelect = onSelect;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    canvas.addEventListener("pointermove", (event) => this.#hover(this.#at(event)));
    canvas.addEventListener("pointerleave", () => this.#hover(null));
    canvas.addEventListener("click", (event) => onSelect(this.#at(event)));
    canvas.addEventListener("keydown", (event) => this.#press(event));
  }

  show(texts, points, groups) {
    [this.#texts, this.#points, this.#groups] = [texts, points, groups];
    this.mark(null, []);
  }

  mark(chosen, near) {
    [this.#chosen, this.#near] = [chosen, near];
    this.draw();
    this.#hover(chosen);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width) return; // The view is hidden.
    this.#canvas.width = width * devicePixelRatio;
    this.#canvas.height = height * devicePixelRatio;
    const context = this.#canvas.getContext("2d");
    context.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(`--${name}`);
    const places = this.places();
    this.#drawLines(context, places, colour("ink"));
    const radius = Math.max(2.5, Math.min(6, 60 / Math.sqrt(places.length)));
    const marked = new Set([this.#chosen, ...this.#near]);
    const order = [...places.keys()].sort((a, b) => marked.has(a) - marked.has(b));
    for (const i of order) {
      context.globalAlpha = this.#chosen === null || marked.has(i) ? 0.9 : 0.45;
      this.#drawPoint(context, places[i], marked.has(i) ? radius + 2 : radius, colour(`group-${this.#groups[i]}`));
      if (i === this.#chosen) this.#ring(context, places[i], radius + 5, colour("ink"));
    }
  }

  // Where each point is, in pixels; both axes have one scale, since distances mean something.
  places() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const ranges = [0, 1].map((k) => {
      const [low, high] = this.#points.reduce(([a, b], point) => [Math.min(a, point[k]), Math.max(b, point[k])], [Infinity, -Infinity]);
      return { middle: (low + high) / 2, size: high - low || 1e-9 };
    });
    const scale = Math.min((width - 2 * MARGIN) / ranges[0].size, (height - 2 * MARGIN) / ranges[1].size);
    return this.#points.map(([x, y]) => [width / 2 + (x - ranges[0].middle) * scale, height / 2 - (y - ranges[1].middle) * scale]);
  }

  #drawLines(context, places, colour) {
    context.strokeStyle = colour;
    context.globalAlpha = 0.45;
    context.beginPath();
    for (const i of this.#near) {
      context.moveTo(...places[this.#chosen]);
      context.lineTo(...places[i]);
    }
    context.stroke();
  }

  #drawPoint(context, [x, y], radius, colour) {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fill();
  }

  #ring(context, [x, y], radius, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    const at = [event.clientX - box.x, event.clientY - box.y];
    return this.#closest(at, (distance) => (distance <= REACH ? distance : Infinity));
  }

  // The point of least cost, of its distance and direction from a place; null if none is finite.
  #closest([x, y], cost) {
    let [best, least] = [null, Infinity];
    this.places().forEach(([px, py], i) => {
      const price = cost(Math.hypot(px - x, py - y), px - x, py - y, i);
      if (price < least) [best, least] = [i, price];
    });
    return best;
  }

  #hover(i) {
    const shown = i ?? this.#chosen;
    this.#tip.hidden = shown === null || shown === undefined;
    if (this.#tip.hidden) return;
    const [x, y] = this.places()[shown];
    const text = this.#texts[shown];
    this.#tip.textContent = text.length > TIP_CHARS ? `${text.slice(0, TIP_CHARS)}…` : text;
    const { clientWidth: width } = this.#canvas;
    const { offsetWidth, offsetHeight } = this.#tip;
    const top = y + 14 + offsetHeight > this.#canvas.clientHeight ? y - 14 - offsetHeight : y + 14;
    this.#tip.style.left = `${Math.max(4, Math.min(width - offsetWidth - 4, x - offsetWidth / 2))}px`;
    this.#tip.style.top = `${top}px`;
  }

  #press(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Escape") this.#onSelect(null);
    if (!(event.key in ways) || this.#points.length === 0) return;
    event.preventDefault();
    const [dx, dy] = ways[event.key];
    const from = this.#chosen === null ? [this.#canvas.clientWidth / 2, this.#canvas.clientHeight / 2] : this.places()[this.#chosen];
    const next = this.#closest(from, (_, x, y, i) => {
      const ahead = x * dx + y * dy;
      const aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (this.#chosen === null) return ahead ** 2 + aside ** 2;
      return i === this.#chosen || ahead <= 0 ? Infinity : ahead + 2 * aside;
    });
    if (next !== null) this.#onSelect(next);
  }
}
