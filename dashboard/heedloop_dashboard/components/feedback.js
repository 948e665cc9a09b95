export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const list = root.appendChild(el("div", "list"));
  for (const entry of data.entries) {
    const item = list.appendChild(el("article", "item " + (entry.tone || "") + (entry.retracted ? " gone" : "") + (entry.current ? " current" : "")));
    const top = item.appendChild(el("div", "top"));
    top.appendChild(el("span", "title", entry.title));
    top.appendChild(el("span", "when", entry.when));
    item.appendChild(el("div", "who", entry.who));
    if (entry.quote) longText(item.appendChild(el("div", "quote")), entry.quote);
    if (entry.text) longText(item.appendChild(el("div", "said")), entry.text).dir = "auto";
    if (entry.open) item.appendChild(link(el("a", "id", entry.id), entry.open, setTriggerValue));
    else if (entry.id) item.appendChild(el("span", "who mono", entry.id));
  }
}
