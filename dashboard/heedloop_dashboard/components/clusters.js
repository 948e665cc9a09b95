export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement);
  const grid = root.appendChild(el("div", "clusters"));
  for (const cluster of data.clusters) {
    const box = grid.appendChild(el("section", "cluster"));
    box.dataset.cluster = cluster.id;
    const top = box.appendChild(el("div", "top"));
    const name = top.appendChild(el("h3", "name", cluster.name));
    name.id = "cluster-" + cluster.id; box.setAttribute("aria-labelledby", name.id);
    const count = link(el("a", "count", cluster.count), cluster.open, setTriggerValue);
    top.appendChild(count);
    const bar = box.appendChild(el("div", "bar"));
    bar.setAttribute("aria-hidden", "true");
    bar.appendChild(el("div", "fill")).style.width = (100 * Math.min(1, cluster.share)).toFixed(1) + "%";
    box.appendChild(el("div", "about", cluster.about));
    const words = box.appendChild(el("div", "words"));
    words.appendChild(el("span", "sr", "Words that set it apart: "));
    for (const word of cluster.words) words.appendChild(el("span", "word", word));
    const list = box.appendChild(el("ol", "examples"));
    list.setAttribute("aria-label", "Central examples");
    for (const example of cluster.examples) {
      const item = list.appendChild(el("li"));
      const a = item.appendChild(link(el("a"), example.open, setTriggerValue));
      const text = a.appendChild(el("span", "text", example.text)); text.dir = "auto";
      if (example.comment) { const said = item.appendChild(el("div", "said", example.comment)); said.dir = "auto"; }
      if (example.note) item.appendChild(el("div", "note", example.note));
    }
    const foot = box.appendChild(el("div", "foot"));
    for (const action of cluster.actions) foot.appendChild(link(el("a", "act", action.label), action.open, setTriggerValue));
  }
}
