const SHAPES = { bad: "M2 5l6 6 4-4 8 8M20 10v5h-5", good: "M2 17l6-6 4 4 8-8M20 12V7h-5", "": "M2 11h18" };
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const box = root.appendChild(el("div", "finding " + data.tone));
  const p = box.appendChild(el("p"));
  const icon = svg("svg", { viewBox: "0 0 22 22", "aria-hidden": "true" });
  icon.appendChild(svg("path", { d: SHAPES[data.tone] || SHAPES[""], fill: "none", stroke: "currentColor", "stroke-width": "2" }));
  p.appendChild(icon);
  if (data.lead) p.appendChild(el("b", "", data.lead));
  p.appendChild(el("span", "", data.text));
  if (data.open) box.appendChild(link(el("a", "", data.action + "  \u2192"), data.open, setTriggerValue));
}
