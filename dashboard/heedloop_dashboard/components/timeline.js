// Lines over one time axis, touched as one: the nearest bucket is read out under every title, by pointer or arrow keys.
const PAD = { left: 44, right: 10, top: 16, bottom: 20 };
function path(points, x, y) {
  let d = "", open = false;
  points.forEach((p, i) => {
    if (p === null || p === undefined) { open = false; return; }
    d += (open ? "L" : "M") + x(i).toFixed(1) + " " + y(p).toFixed(1);
    open = true;
  });
  return d;
}
function area(low, high, x, y) {
  const runs = [[]];
  low.forEach((v, i) => (v === null ? runs.push([]) : runs[runs.length - 1].push(i)));
  return runs.filter((r) => r.length > 1).map((r) =>
    "M" + r.map((i) => x(i).toFixed(1) + " " + y(high[i]).toFixed(1)).join("L") +
    "L" + r.slice().reverse().map((i) => x(i).toFixed(1) + " " + y(low[i]).toFixed(1)).join("L") + "Z").join("");
}
function lone(points) {
  return points.map((p, i) => p !== null && (points[i - 1] ?? null) === null && (points[i + 1] ?? null) === null);
}
export default function ({ data, parentElement, setTriggerValue }) {
  const root = mount(parentElement), times = data.times, last = times.length - 1;
  const span = Math.max(1, times[last] - times[0]);
  const grid = root.appendChild(el("div", "grid"));
  grid.style.setProperty("--columns", data.columns);
  let at = -1, from = null;
  const drawn = data.panels.map((panel) => {
    const box = grid.appendChild(el("section", "plot"));
    box.dataset.plot = panel.key;
    const head = box.appendChild(el("div", "head"));
    if (panel.title) head.appendChild(el("h3", "", panel.title));
    const value = head.appendChild(el("div", "value", panel.value));
    const chart = box.appendChild(svg("svg", { class: "chart", height: data.height, tabindex: 0, role: "slider", "aria-label": panel.alt,
      "aria-valuemin": 0, "aria-valuemax": last, "aria-valuenow": last, "aria-valuetext": panel.shown[last] }));
    return { panel, value, chart };
  });
  const width = (d) => Math.max(60, d.chart.clientWidth || 300);
  const xOf = (d) => (ms) => PAD.left + ((ms - times[0]) / span) * (width(d) - PAD.left - PAD.right);
  const nearest = (d, event) => {
    const box = d.chart.getBoundingClientRect();
    const ms = times[0] + ((event.clientX - box.left - PAD.left) / Math.max(1, box.width - PAD.left - PAD.right)) * span;
    return times.reduce((best, t, i) => (Math.abs(t - ms) < Math.abs(times[best] - ms) ? i : best), 0);
  };
  function draw(d) {
    const { panel, chart } = d, [low, high] = panel.domain, bottom = data.height - PAD.bottom;
    const ms = xOf(d), x = (i) => ms(times[i]), y = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - PAD.top);
    const put = (tag, attrs, text) => { const n = chart.appendChild(svg(tag, attrs)); if (text) n.textContent = text; return n; };
    chart.replaceChildren();
    chart.setAttribute("viewBox", "0 0 " + width(d) + " " + data.height);
    for (const band of panel.alarms) {
      const left = Math.max(ms(band.since), PAD.left), right = Math.min(ms(band.until), width(d) - PAD.right);
      if (right < left) continue;
      put("rect", { class: "alarm", x: left, y: PAD.top, width: Math.max(2, right - left), height: bottom - PAD.top }).appendChild(svg("title", {})).textContent = visible(band.name);
    }
    for (const tick of panel.ticks) {
      put("line", { class: "rule", x1: PAD.left, x2: width(d) - PAD.right, y1: y(tick.at), y2: y(tick.at) });
      put("text", { class: "tick", x: PAD.left - 7, y: y(tick.at) + 4, "text-anchor": "end" }, tick.label);
    }
    const ends = [[0, "start"], [last, "end"]];
    if (width(d) > 420 && last > 3) ends.splice(1, 0, [Math.round(last / 3), "middle"], [Math.round((2 * last) / 3), "middle"]);
    for (const [i, anchor] of ends) put("text", { class: "tick", x: x(i), y: data.height - 4, "text-anchor": anchor }, data.days[i]);
    let free = -1;
    for (const release of data.releases) {
      // the running bucket's point stands at its beginning: what came up within it is drawn there
      const left = Math.min(ms(release.at), width(d) - PAD.right);
      put("line", { class: "release", x1: left, x2: left, y1: PAD.top - 4, y2: bottom }).appendChild(svg("title", {})).textContent = visible(release.label);
      if (left < free || left > width(d) - 30) continue;
      put("text", { class: "tick", x: left + 4, y: PAD.top - 5 }, visible(release.label).slice(0, 16));
      free = left + 7 * Math.min(16, release.label.length) + 8;
    }
    if (panel.band) put("path", { class: "band", d: area(panel.band.low, panel.band.high, x, y) });
    panel.lines.forEach((line, n) => {
      put("path", { class: "line line" + n, d: path(line.points, x, y) });
      lone(line.points).forEach((yes, i) => yes && put("circle", { class: "dot line" + n, cx: x(i), cy: y(line.points[i]), r: 3 }));
      const now = line.running;
      if (now !== null && now !== undefined) put("circle", { class: "running line" + n, cx: x(last), cy: y(Math.min(high, Math.max(low, now))), r: 3.2 });
    });
    d.cursor = put("line", { class: "cursor", y1: PAD.top, y2: bottom, visibility: "hidden" });
    d.brush = put("rect", { class: "brush", y: PAD.top, height: bottom - PAD.top, visibility: "hidden" });
    d.dots = panel.lines.map((_, n) => put("circle", { class: "dot line" + n, r: 3.6, visibility: "hidden" }));
    d.x = x; d.y = y;
  }
  function show(i) {
    at = i;
    for (const d of drawn) {
      d.value.textContent = i < 0 ? d.panel.value : visible(d.panel.shown[i]);
      d.value.classList.toggle("read", i >= 0);
      d.cursor.setAttribute("visibility", i < 0 ? "hidden" : "visible");
      d.chart.setAttribute("aria-valuenow", i < 0 ? last : i);
      d.chart.setAttribute("aria-valuetext", d.panel.shown[i < 0 ? last : i]);
      if (i >= 0) { d.cursor.setAttribute("x1", d.x(i)); d.cursor.setAttribute("x2", d.x(i)); }
      d.dots.forEach((dot, n) => {
        const p = i < 0 ? null : d.panel.lines[n].points[i] ?? null;
        dot.setAttribute("visibility", p === null ? "hidden" : "visible");
        if (p !== null) { dot.setAttribute("cx", d.x(i)); dot.setAttribute("cy", d.y(p)); }
      });
      if (from !== null && i >= 0 && d.brush) {
        const [a, b] = [d.x(Math.min(from, i)), d.x(Math.max(from, i))];
        d.brush.setAttribute("x", a); d.brush.setAttribute("width", b - a); d.brush.setAttribute("visibility", "visible");
      } else if (d.brush) d.brush.setAttribute("visibility", "hidden");
    }
  }
  const times_ = (i, j) => ({ since: new Date(times[i]).toISOString(), until: new Date(j < last ? times[j + 1] : data.end).toISOString() });
  const open = (target, i, j) => target && setTriggerValue("open", { page: target.page, params: { ...target.params, ...times_(i, j) } });
  for (const d of drawn) {
    d.chart.addEventListener("pointermove", (event) => show(nearest(d, event)));
    d.chart.addEventListener("pointerleave", () => { if (from === null) show(-1); });
    d.chart.addEventListener("pointerdown", (event) => { if (event.button === 0) { from = nearest(d, event); if (data.brush && event.pointerType === "mouse") d.chart.setPointerCapture(event.pointerId); } });
    d.chart.addEventListener("pointercancel", () => { from = null; show(-1); });
    d.chart.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [i, j] = [from, nearest(d, event)].sort((a, b) => a - b);
      from = null;
      show(-1);
      if (i === j || !data.brush) open(d.panel.open, i, i); else open(data.brush, i, j);
    });
    d.chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (step) show(Math.max(0, Math.min(last, (at < 0 ? last + (step < 0 ? 1 : 0) : at) + step)));
      else if (event.key === "Home") show(0);
      else if (event.key === "End") show(last);
      else if (event.key === "Enter" && at >= 0) open(d.panel.open, at, at);
      else if (event.key === "Escape") show(-1);
      else return;
      event.preventDefault();
    });
    d.chart.addEventListener("blur", () => show(-1));
  }
  const observer = new ResizeObserver(() => drawn.forEach(draw));
  observer.observe(grid);
  return () => observer.disconnect();
}
