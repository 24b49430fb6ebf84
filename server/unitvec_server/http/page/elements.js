// Elements of the page. Texts of users enter it as text nodes only; the server's policy of trusted
// types makes the browser refuse anything else.

export const byId = (id) => document.getElementById(id);

export function element(name, { text = "", ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...(text === "" ? [] : [text]), ...children);
  return made;
}

export function button(text, onClick, attributes = {}) {
  const made = element("button", { type: "button", text, ...attributes });
  made.addEventListener("click", onClick);
  return made;
}

// A row of results: the text, its score, and the score as a bar.
export function ranked(text, score, onClick = null) {
  const track = element("i");
  track.style.setProperty("--share", `${Math.max(0, Math.min(1, score)) * 100}%`);
  const shown = onClick ? button(text, onClick) : element("span", { text });
  return element("li", {}, shown, element("span", { class: "score", text: score.toFixed(3) }),
    element("span", { class: "track", "aria-hidden": "true" }, track));
}

// Tabs as screen readers and keyboards expect them: one is in the tab order, arrows move.
export function tabs(list, onSelect) {
  const all = [...list.querySelectorAll("[role=tab]")];
  const select = (tab) => {
    for (const one of all) {
      one.setAttribute("aria-selected", String(one === tab));
      one.tabIndex = one === tab ? 0 : -1;
    }
    onSelect(tab.id);
  };
  for (const tab of all) tab.addEventListener("click", () => select(tab));
  list.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -all.length, End: all.length };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const now = all.indexOf(document.activeElement);
    const { length } = all;
    const next = Math.abs(steps[event.key]) === 1 ? (now + steps[event.key] + length) % length
      : event.key === "Home" ? 0 : length - 1;
    all[next].focus();
    select(all[next]);
  });
}

// Calls `action` once nothing has asked for it during `wait_ms`.
export function debounced(action, wait_ms) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait_ms);
  };
}

export function showError(error) {
  if (error?.name === "AbortError") return;
  if (error && !error.isPlain) console.warn(error);
  const shown = byId("error");
  shown.textContent = error ? error.message : "";
  shown.hidden = !error;
  if (error?.status === 401) byId("token-form").hidden = false;
}
