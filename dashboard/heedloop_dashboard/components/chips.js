export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const list = root.appendChild(el("ul", "chips"));
  list.setAttribute("aria-label", "Filters in force");
  for (const chip of data.chips) {
    const a = list.appendChild(el("li")).appendChild(link(el("a", "chip"), chip.open, setTriggerValue));
    a.appendChild(el("span", "what", chip.label));
    a.appendChild(el("span", "", "\u00d7")).setAttribute("aria-hidden", "true");
    a.appendChild(el("span", "sr", ": take this filter away"));
  }
}
