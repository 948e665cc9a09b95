const TAGS = { same: "span", gone: "del", new: "ins" };
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const box = root.appendChild(el("div", "diff"));
  box.setAttribute("role", "group"); box.setAttribute("aria-label", data.label); box.dir = "auto";
  for (const piece of data.pieces) breakable(box.appendChild(el(TAGS[piece.op] || "span")), visible(piece.text));
}
