// Spans as a tree with a waterfall: fold, errors only, J and K for the next and the one before.
function folds(rows) {
  // the index after the last row below each row
  const end = new Array(rows.length), open = [];
  rows.forEach((row, i) => {
    while (open.length && rows[open[open.length - 1]].depth >= row.depth) end[open.pop()] = i;
    open.push(i);
  });
  for (const i of open) end[i] = rows.length;
  return end;
}
function withAncestors(rows, wanted) {
  const kept = new Set(), path = [];
  rows.forEach((row, i) => {
    path.length = row.depth;
    path[row.depth] = i;
    if (wanted(row)) for (const k of path) if (k !== undefined) kept.add(k);
  });
  return kept;
}
function rowOf(row, i, state, below, data, trigger) {
  const item = el("li", row.status);
  const fold = item.appendChild(el(below ? "button" : "span", "fold", below ? (state.folded.has(row.span_id) ? "\u25b8" : "\u25be") : ""));
  fold.style.marginLeft = 12 * Math.min(row.depth, 12) + "px";
  if (below) {
    fold.type = "button";
    fold.setAttribute("aria-expanded", String(!state.folded.has(row.span_id)));
    fold.setAttribute("aria-label", (state.folded.has(row.span_id) ? "Unfold " : "Fold ") + visible(row.name));
    fold.addEventListener("click", () => state.toggle(row.span_id));
  }
  const open = { page: data.open.page, params: { ...data.open.params, span_id: row.span_id } };
  const line = item.appendChild(link(el("a"), open, trigger));
  if (row.span_id === data.selected) line.setAttribute("aria-current", "true");
  line.title = visible(row.error ? row.name + ": " + row.error : row.name);
  const name = line.appendChild(el("span", "name", row.name));
  if (row.attempt) name.appendChild(el("span", "attempt", "attempt " + row.attempt));
  if (row.status === "error") name.appendChild(el("span", "sr", " failed: " + row.error));
  const bar = line.appendChild(el("span", "track")).appendChild(el("span", "bar"));
  bar.style.left = (100 * row.start).toFixed(2) + "%";
  bar.style.width = (100 * row.width).toFixed(2) + "%";
  line.appendChild(el("span", "time", row.duration));
  return item;
}
function draw(root, data, state, trigger) {
  const rows = data.spans, end = folds(rows), errors = rows.filter((r) => r.status === "error").length;
  root.replaceChildren();
  if (rows.length > 1) {
    const bar = root.appendChild(el("div", "tools"));
    const parents = rows.filter((r, i) => end[i] > i + 1);
    const add = (label, pressed, act) => {
      const button = bar.appendChild(el("button", "", label));
      button.type = "button";
      if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
      button.addEventListener("click", act);
    };
    if (errors) add("Errors only (" + errors.toLocaleString("en") + ")", state.errors, () => { state.errors = !state.errors; state.draw(); });
    if (parents.length > 1) {
      const all = state.folded.size > 0;
      add(all ? "Unfold all" : "Fold all", null, () => { state.folded = new Set(all ? [] : parents.filter((r) => r.depth > 0).map((r) => r.span_id)); state.draw(); });
    }
    bar.appendChild(el("span", "keys", "J / K: next, previous"));
  }
  const kept = state.errors ? withAncestors(rows, (r) => r.status === "error") : null;
  const list = root.appendChild(el("ol"));
  for (let i = 0; i < rows.length; i += 1) {
    if (kept && !kept.has(i)) continue;
    list.appendChild(rowOf(rows[i], i, state, end[i] > i + 1, data, trigger));
    if (!kept && state.folded.has(rows[i].span_id)) i = end[i] - 1;
  }
}
function step(list, by) {
  const lines = [...list.querySelectorAll("a")];
  const here = lines.findIndex((a) => a.getAttribute("aria-current"));
  const next = lines[Math.min(Math.max(here + by, 0), lines.length - 1)];
  if (!next || next === lines[here]) return;
  if (here >= 0) lines[here].removeAttribute("aria-current");
  next.setAttribute("aria-current", "true");
  next.scrollIntoView({ block: "nearest" });
  return next;
}
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const state = parentElement.state || (parentElement.state = { folded: new Set(), errors: false });
  state.draw = () => draw(root, data, state, setTriggerValue);
  state.toggle = (id) => { if (!state.folded.delete(id)) state.folded.add(id); state.draw(); };
  state.draw();
  const current = root.querySelector("[aria-current]");
  if (current && data.spans.length > 20) current.scrollIntoView({ block: "nearest" });
  let waiting = 0;
  const onKey = (event) => {
    const at = event.composedPath()[0];
    if (event.metaKey || event.ctrlKey || event.altKey || (at && at.matches && at.matches("input, textarea, select, [contenteditable]"))) return;
    const by = { j: 1, k: -1 }[event.key.toLowerCase()];
    const next = by && step(root, by);
    if (!next) return;
    event.preventDefault();
    clearTimeout(waiting);
    // held down, the key runs through the spans; the one it ends on is opened
    waiting = setTimeout(() => next.click(), 180);
  };
  document.addEventListener("keydown", onKey);
  return () => { clearTimeout(waiting); document.removeEventListener("keydown", onKey); };
}
