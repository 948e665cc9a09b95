const FACES = {
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4 20c0-4 4-6 8-6s8 2 8 6Z",
  assistant: "M12 3v3M5 8h14v10H5zM9 12v2M15 12v2M2 12v3M22 12v3",
  system: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M5 19l2-2",
  tool: "M14 6a4 4 0 0 0-5 5l-6 6 3 3 6-6a4 4 0 0 0 5-5l-3 3-2-2Z",
};
// Ranges are counted in code points; JavaScript counts UTF-16 units.
function pieces(text, marks) {
  const chars = Array.from(text), cuts = new Set([0, chars.length]);
  for (const m of marks) { cuts.add(Math.min(m.start, chars.length)); cuts.add(Math.min(m.end, chars.length)); }
  const at = [...cuts].sort((a, b) => a - b);
  return at.slice(0, -1).map((start, i) => ({
    text: chars.slice(start, at[i + 1]).join(""),
    marks: marks.filter((m) => m.start <= start && m.end >= at[i + 1]),
  }));
}
const FIRST = 2, LAST = 20;
function marked(node, m) {
  if (!(m.marks || []).length) { longText(node, m.text || ""); return; }
  for (const piece of pieces(m.text || "", m.marks)) {
    if (!piece.marks.length) { breakable(node.appendChild(el("span")), visible(piece.text)); continue; }
    const worst = piece.marks.some((k) => k.severity !== "low") ? "" : "low";
    const mark = breakable(node.appendChild(el("mark", worst)), visible(piece.text));
    mark.title = visible(piece.marks.map((k) => k.label).join(", "));
  }
}
function block(parent, cls, text) {
  const node = longText(parent.appendChild(el("pre", "tool " + cls)), text);
  node.tabIndex = 0;
  return node;
}
function message(m) {
  const box = el("article", "message " + (FACES[m.role] ? m.role : "other"));
  const who = box.appendChild(el("div", "who"));
  const face = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  face.appendChild(svg("path", { d: FACES[m.role] || FACES.tool, fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linejoin": "round" }));
  who.appendChild(face);
  const body = box.appendChild(el("div", "body"));
  body.appendChild(el("div", "role", m.role));
  if (m.reasoning) {
    const details = body.appendChild(el("details"));
    details.appendChild(el("summary", "", "Reasoning"));
    longText(details.appendChild(el("div", "text")), m.reasoning);
  }
  const text = body.appendChild(el("div", "text"));
  text.dir = "auto";
  marked(text, m);
  for (const call of m.tool_calls || []) block(body, "", call.name + "(" + (call.arguments || "") + ")");
  for (const item of m.media || []) body.appendChild(el("div", "tool", item));
  const labels = [...new Set((m.marks || []).map((k) => k.label))];
  if (labels.length) {
    const legend = body.appendChild(el("div", "legend"));
    for (const label of labels) legend.appendChild(el("span", "", label));
  }
  if (m.note) body.appendChild(el("div", "note", m.note));
  return box;
}
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  if (data.error) {
    const failed = root.appendChild(el("div", "failed"));
    failed.appendChild(el("b", "", "Error"));
    longText(failed.appendChild(el("pre")), data.error);
  }
  for (const part of data.payloads || []) {
    root.appendChild(el("h3", "", part.title));
    block(root, part.text === "(empty)" ? "muted" : "", part.text);
  }
  const all = data.messages, hidden = all.length - FIRST - LAST;
  if (hidden < 5) { for (const m of all) root.appendChild(message(m)); return; }
  for (const m of all.slice(0, FIRST)) root.appendChild(message(m));
  const more = root.appendChild(el("button", "more", "Show " + hidden.toLocaleString("en") + " messages in between"));
  more.type = "button";
  more.addEventListener("click", () => more.replaceWith(...all.slice(FIRST, -LAST).map(message)));
  for (const m of all.slice(-LAST)) root.appendChild(message(m));
}
