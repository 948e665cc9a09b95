export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement), list = root.appendChild(el("ol", "hits"));
  list.setAttribute("aria-label", "Results");
  for (const hit of data.hits) {
    const item = list.appendChild(el("li")), a = item.appendChild(link(el("a", "hit"), hit.open, setTriggerValue));
    const top = a.appendChild(el("div", "top"));
    top.appendChild(el("span", "where", hit.where));
    if (hit.thumb) top.appendChild(el("span", "thumb " + hit.thumb, hit.thumb === "up" ? "Thumbs-up" : "Thumbs-down"));
    top.appendChild(el("span", "about", hit.about));
    const text = a.appendChild(el("div", "text")), chars = Array.from(hit.text);
    text.dir = "auto";
    let at = 0;
    // ranges are counted in code points
    for (const [start, end] of hit.marks) {
      breakable(text, visible(chars.slice(at, start).join("")));
      text.appendChild(el("mark", "", chars.slice(start, end).join("")));
      at = end;
    }
    breakable(text, visible(chars.slice(at).join("")));
  }
}
