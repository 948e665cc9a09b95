function sparkline(points, tone) {
  const known = points.filter((p) => p !== null);
  const box = svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", class: tone, "aria-hidden": "true" });
  if (known.length < 2) return box;
  const low = Math.min(...known), top = Math.max(...known);
  // A change of less than a fifth of the value must not look like a cliff: the line then stays in the middle.
  const span = Math.max(top - low, 0.2 * Math.abs(top)) || 1, lift = (span - (top - low)) / 2;
  let path = "", pen = false;
  points.forEach((p, i) => {
    if (p === null) { pen = false; return; }
    const x = (100 * i) / (points.length - 1), y = 35 - (28 * (p - low + lift)) / span;
    path += (pen ? "L" : "M") + x.toFixed(2) + " " + y.toFixed(2);
    pen = true;
  });
  box.appendChild(svg("path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": "1.6", "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke" }));
  return box;
}
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const grid = root.appendChild(el("div", "cards"));
  for (const card of data.cards) {
    const box = grid.appendChild(link(el(card.open ? "a" : "div", "card"), card.open, setTriggerValue));
    box.dataset.card = card.key;
    const label = box.appendChild(el("div", "label", card.label));
    if (card.help) {
      label.appendChild(el("span", "help", "?")).setAttribute("aria-hidden", "true");
      box.title = card.help;
      label.appendChild(el("span", "sr", card.help));
    }
    box.appendChild(el("div", "value", card.value));
    const row = box.appendChild(el("div", "row" + (card.points ? "" : " pad")));
    if (card.delta) row.appendChild(el("span", "delta " + card.tone, card.delta));
    if (card.note) row.appendChild(el("span", "note", card.note));
    if (card.points) box.appendChild(sparkline(card.points, card.tone));
  }
}
