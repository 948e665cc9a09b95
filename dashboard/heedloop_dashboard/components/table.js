// What to do with the rows that are chosen; nothing to see before one is.
function drawBar(bar, picked, actions, trigger) {
  bar.replaceChildren();
  bar.hidden = !picked.size;
  if (bar.hidden) return;
  bar.appendChild(el("span", "", picked.size.toLocaleString("en") + " chosen"));
  for (const action of actions) {
    const button = bar.appendChild(el("button", "", action.label));
    button.type = "button";
    button.addEventListener("click", () => trigger("act", { action: action.key, keys: [...picked] }));
  }
}
function checkbox(label, checked, change) {
  const box = el("input");
  box.type = "checkbox";
  box.checked = checked;
  box.setAttribute("aria-label", label);
  box.addEventListener("change", () => change(box.checked));
  return box;
}
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement), actions = data.actions || [];
  const keys = data.rows.map((row) => row.pick), before = parentElement.picked || new Set();
  const picked = (parentElement.picked = new Set(keys.filter((key) => before.has(key))));
  const bar = root.appendChild(el("div", "actions")), boxes = [];
  bar.setAttribute("role", "group"); bar.setAttribute("aria-label", "Chosen rows");
  const changed = () => {
    boxes.forEach((box, i) => { box.checked = picked.has(keys[i]); });
    drawBar(bar, picked, actions, setTriggerValue);
  };
  const scroll = root.appendChild(el("div", "scroll" + (data.tall ? " tall" : "") + (data.plain ? " plain" : "")));
  scroll.tabIndex = 0; scroll.setAttribute("role", "region"); scroll.setAttribute("aria-label", data.caption);
  const table = scroll.appendChild(el("table"));
  table.appendChild(el("caption", "sr", data.caption));
  const head = table.appendChild(el("thead")).appendChild(el("tr"));
  if (actions.length) {
    const all = (on) => { picked.clear(); if (on) keys.forEach((key) => picked.add(key)); changed(); };
    head.appendChild(el("th", "pick")).appendChild(checkbox("Choose all rows", false, all));
  }
  for (const column of data.columns) {
    const th = head.appendChild(el("th", column.kind, column.open ? "" : column.label));
    th.scope = "col";
    if (!column.open) continue;
    if (column.sorted) th.setAttribute("aria-sort", column.sorted);
    const arrow = { ascending: " \u2191", descending: " \u2193" }[column.sorted] || "";
    link(th.appendChild(el("a", "", column.label + arrow)), column.open, setTriggerValue);
  }
  const body = table.appendChild(el("tbody"));
  data.rows.forEach((row, i) => {
    const tr = body.appendChild(el("tr", row.open ? "opens" : ""));
    if (row.key) tr.dataset.key = row.key;
    if (actions.length) {
      const pick = (on) => { if (on) picked.add(row.pick); else picked.delete(row.pick); changed(); };
      boxes.push(tr.appendChild(el("td", "pick")).appendChild(checkbox("Choose row " + (i + 1), picked.has(row.pick), pick)));
    }
    data.columns.forEach((column, j) => {
      const td = tr.appendChild(el("td", column.kind));
      const value = row.cells[j];
      const open = (row.opens && row.opens[column.key]) || (j === data.link ? row.open : null);
      const inner = open ? td.appendChild(link(el("a"), open, setTriggerValue)) : td;
      if (Array.isArray(value)) value.forEach((v) => inner.appendChild(el("span", "tag", v)));
      else {
        if (column.kind === "state") inner.classList.add("state", "state-" + String(value).toLowerCase().split(/[^a-z]/)[0]);
        if (column.kind === "thumb") inner.classList.add({ Up: "up", Down: "down" }[value] || "unrated");
        longText(inner.appendChild(el("span")), value === null || value === undefined || value === "" ? "\u2013" : value);
      }
      if (column.kind === "wide") td.title = visible(String(value ?? "")).slice(0, 400);
    });
    if (row.open) tr.addEventListener("click", (event) => {
      if (event.target.closest("a, .pick") || String(getSelection())) return;
      setTriggerValue("open", row.open);
    });
  });  changed();
}
