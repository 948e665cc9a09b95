export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const chain = root.appendChild(el("div", "chain"));
  data.steps.forEach((step, i) => {
    if (i) chain.appendChild(el("span", "arrow", "\u2192")).setAttribute("aria-hidden", "true");
    const box = chain.appendChild(el("section", "step" + (step.here ? " here" : "")));
    box.dataset.step = step.kind;
    box.appendChild(el("div", "kind", step.kind));
    if (!step.entries.length) box.appendChild(el("div", "none", step.none || "none yet"));
    for (const entry of step.entries) {
      const row = box.appendChild(el("div", "entry"));
      if (entry.open) row.appendChild(link(el("a", "", entry.id), entry.open, setTriggerValue));
      else row.appendChild(el("span", "mono", entry.id));
      if (entry.about) row.appendChild(el("div", "about", entry.about));
    }
  });
}
