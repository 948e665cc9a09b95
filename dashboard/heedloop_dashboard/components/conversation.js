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
// A picture that the content holds, from the content itself: nothing is loaded. A click shows it large.
const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/;
function picture(source, number) {
  const button = el("button", "picture");
  button.type = "button";
  const image = button.appendChild(el("img"));
  image.src = source;
  image.alt = "Image " + number;
  button.addEventListener("click", () => button.classList.toggle("large"));
  return button;
}
function message(m, trigger, state) {
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
  if (state.markdown) { text.classList.add("markdown"); drawMarkdown(text, m.text || ""); }
  else marked(text, m);
  if (m.error) longText(body.appendChild(el("pre", "wrong")), m.error);
  for (const call of m.tool_calls || []) block(body, "", call.name + "(" + (call.arguments || "") + ")");
  const pictures = (m.images || []).filter((source) => PICTURE.test(source));
  pictures.forEach((source, i) => body.appendChild(picture(source, i + 1)));
  for (const item of (m.media || []).slice(pictures.length)) body.appendChild(el("div", "tool", item));
  const labels = [...new Set((m.marks || []).map((k) => k.label))];
  if (labels.length) {
    const legend = body.appendChild(el("div", "legend"));
    for (const label of labels) legend.appendChild(el("span", "", label));
  }
  if (m.note) {
    const note = body.appendChild(el("div", "note", m.note));
    if (m.open) note.append(" \u00b7 ", link(el("a", "open", "Open trace"), m.open, trigger));
  }
  if ((m.feedback || []).length) {
    const said = body.appendChild(el("ul", "judged"));
    said.setAttribute("aria-label", "Feedback on this answer");
    for (const f of m.feedback) {
      const item = said.appendChild(el("li", f.tone || ""));
      item.appendChild(link(el("a", "what", f.title), f.open, trigger));
      item.appendChild(el("span", "by", f.who + ", " + f.when));
      if (f.text) longText(item.appendChild(el("div", "said")), f.text).dir = "auto";
    }
  }
  return box;
}
const FORMATTED = /[*_`#>|-]|\d\.|\[/;
export default function ({ data, parentElement, setTriggerValue }) {
  const state = parentElement.state || (parentElement.state = { markdown: false });
  draw(mount(parentElement), data, state, parentElement, setTriggerValue);
}
function draw(root, data, state, parent, trigger) {
  if (data.messages.some((m) => FORMATTED.test(m.text || ""))) {
    const toggle = root.appendChild(el("button", "switch", "Markdown"));
    toggle.type = "button";
    toggle.setAttribute("aria-pressed", String(state.markdown));
    toggle.addEventListener("click", () => { state.markdown = !state.markdown; draw(mount(parent), data, state, parent, trigger); });
  }
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
  if (hidden < 5) { for (const m of all) root.appendChild(message(m, trigger, state)); return; }
  for (const m of all.slice(0, FIRST)) root.appendChild(message(m, trigger, state));
  const more = root.appendChild(el("button", "more", "Show " + hidden.toLocaleString("en") + " messages in between"));
  more.type = "button";
  more.addEventListener("click", () => more.replaceWith(...all.slice(FIRST, -LAST).map((m) => message(m, trigger, state))));
  for (const m of all.slice(-LAST)) root.appendChild(message(m, trigger, state));
}
