// When a group's answers came, as a row of columns.
function columns(counts) {
  const most = Math.max(1, ...counts), chart = svg("svg", { class: "columns", viewBox: "0 0 " + 5 * counts.length + " 22", "aria-hidden": "true" });
  counts.forEach((n, i) => chart.appendChild(svg("rect", { x: 5 * i, width: 4, y: 22 - (n ? Math.max(2, (22 * n) / most) : 0), height: n ? Math.max(2, (22 * n) / most) : 0 })));
  return chart;
}
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
    if (cluster.rate) box.appendChild(el("div", "rate" + (cluster.excess ? " excess" : ""), cluster.rate));
    const since = box.appendChild(el("div", "since"));
    since.appendChild(el("div", "about", cluster.about));
    if (cluster.counts.length) since.appendChild(columns(cluster.counts));
    const words = box.appendChild(el("div", "words"));
    words.appendChild(el("span", "sr", "Words that set it apart: "));
    for (const word of cluster.words) words.appendChild(el("span", "word", word));
    const list = box.appendChild(el("ol", "examples"));
    list.setAttribute("aria-label", "Central examples");
    cluster.examples.forEach((example, i) => {
      const item = list.appendChild(el("li"));
      if (i === 0 && example.question) longText(item.appendChild(el("div", "question")), example.question).dir = "auto";
      const a = item.appendChild(link(el("a"), example.open, setTriggerValue));
      const text = a.appendChild(el("span", "text", example.text)); text.dir = "auto";
      if (example.comment) { const said = item.appendChild(el("div", "said", example.comment)); said.dir = "auto"; }
      if (example.note) item.appendChild(el("div", "note", example.note));
    });
    const foot = box.appendChild(el("div", "foot"));
    for (const action of cluster.actions) foot.appendChild(link(el("a", "act", action.label), action.open, setTriggerValue));
  }
}
