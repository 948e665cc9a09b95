export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const nav = root.appendChild(el("nav", data.side));
  nav.setAttribute("aria-label", data.label);
  for (const entry of data.links) {
    if (entry.open) nav.appendChild(link(el("a", "", entry.label), entry.open, setTriggerValue));
    else nav.appendChild(el("span", "", entry.label)).setAttribute("aria-disabled", "true");
  }
}
