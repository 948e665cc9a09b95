export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const scroll = root.appendChild(el("div", "scroll" + (data.tall ? " tall" : "") + (data.plain ? " plain" : "")));
  scroll.tabIndex = 0; scroll.setAttribute("role", "region"); scroll.setAttribute("aria-label", data.caption);
  const table = scroll.appendChild(el("table"));
  table.appendChild(el("caption", "sr", data.caption));
  const head = table.appendChild(el("thead")).appendChild(el("tr"));
  for (const column of data.columns) {
    head.appendChild(el("th", column.kind, column.label)).scope = "col";
  }
  const body = table.appendChild(el("tbody"));
  data.rows.forEach((row, i) => {
    const tr = body.appendChild(el("tr", row.open ? "opens" : ""));
    if (row.key) tr.dataset.key = row.key;
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
      if (event.target.closest("a") || String(getSelection())) return;
      setTriggerValue("open", row.open);
    });
  });
}
