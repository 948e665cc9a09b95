export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const list = root.appendChild(el("ol"));
  for (const span of data.spans) {
    const item = list.appendChild(el("li", span.status));
    const row = item.appendChild(link(el("a"), span.open, setTriggerValue));
    if (span.span_id === data.selected) row.setAttribute("aria-current", "true");
    const name = row.appendChild(el("span", "name", span.name));
    name.style.paddingLeft = 14 * Math.min(span.depth, 12) + "px";
    name.title = visible(span.name);
    const bar = row.appendChild(el("span", "track")).appendChild(el("span", "bar"));
    bar.style.left = (100 * span.start).toFixed(2) + "%";
    bar.style.width = (100 * span.width).toFixed(2) + "%";
    row.appendChild(el("span", "time", span.duration));
  }
}
