// A widget per kind of question. Each has `node`, `options` (buttons that number keys and arrows reach), `update` (shows
// the value anew), `complete` (is it answered) and `focus`. A value is only ever what the person chose: nothing is pre-filled.
let nextId = 0;
class Widget {
  constructor(question, cell) {
    this.question = question;
    this.cell = cell;
    this.options = [];
    this.id = `rv-q${nextId++}`;
    this.node = el("fieldset", "rv-q");
    this.node.dataset.question = question.name;
    const legend = this.node.appendChild(el("legend", "", question.title || question.name));
    if (question.required === false) legend.appendChild(el("small", "", "optional"));
    if (question.help) this.node.appendChild(el("p", "rv-help", question.help));
    if (cell.suggestion !== undefined && cell.suggestion !== null)
      this.node.appendChild(el("p", "rv-suggestion", "Suggested: " + inWords(question, cell.suggestion)));
    this.body = this.node.appendChild(el("div", "rv-body"));
    this.build();
    this.update();
  }
  get value() { return this.cell.get(); }
  set(value) { this.cell.set(value); this.update(); }
  update() {}
  get complete() { return this.question.required === false || this.has; }
  get has() { return this.value !== undefined && this.value !== null; }
  focus() { const first = this.options.find((o) => o.getAttribute("aria-pressed") === "true") || this.options[0]; if (first) first.focus(); }
  digit(n) {
    const option = this.options.find((o) => o.dataset.key === String(n));
    if (option) { option.focus({ preventScroll: true }); option.click(); }
    return Boolean(option);
  }
  // An option: a button with its number key, which shows while this question listens to number keys.
  option(parent, text, key, pick, cls) {
    const button = parent.appendChild(el("button", cls || "rv-option"));
    button.type = "button";
    button.appendChild(el("span", "", text));
    if (key !== null) { button.dataset.key = key; button.appendChild(el("kbd", "", key)).setAttribute("aria-hidden", "true"); }
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", pick);
    this.options.push(button);
    return button;
  }
  press(test) { this.options.forEach((o, i) => o.setAttribute("aria-pressed", String(test(i)))); }
}
const keyOf = (i) => (i < 9 ? String(i + 1) : null);

class Choice extends Widget {
  get choices() {
    if (this.question.kind === "thumb") return [[1, "Good", "good"], [0, "Bad", "bad"]];
    return this.question.categories.map((c) => [c, c, ""]);
  }
  build() {
    const row = this.body.appendChild(el("div", this.question.kind === "thumb" ? "rv-two" : "rv-chips"));
    this.choices.forEach(([value, text, icon], i) => {
      const button = this.option(row, text, keyOf(i), () => this.choose(value), this.question.kind === "thumb" ? "rv-option thumb" : "rv-option chip");
      if (icon) button.prepend(iconOf(icon));
    });
  }
  // Choosing the chosen one again takes it back.
  choose(value) { const off = this.value === value; this.set(off ? undefined : value); if (!off) this.cell.chosen(); }
  update() { this.press((i) => this.choices[i][0] === this.value); }
}

class Scale extends Widget {
  build() {
    const { min, max } = this.question;
    this.values = Array.from({ length: Math.min(max - min + 1, 101) }, (_, i) => min + i);
    this.isNumber = this.question.kind === "number";
    if (this.isNumber || this.values.length > 11) { this.buildNumber(); return; }
    const row = this.body.appendChild(el("div", "rv-scale"));
    const digits = min >= 0 && max <= 9;
    this.values.forEach((v, i) => {
      const anchor = this.anchor(v);
      const button = this.option(row, String(v), digits ? String(v) : keyOf(i), () => this.choose(v), "rv-option step");
      button.querySelector("kbd")?.remove();
      if (anchor) { button.title = visible([anchor.label, anchor.description].filter(Boolean).join(": ")); button.setAttribute("aria-label", `${v}: ${button.title}`); }
      button.addEventListener("focus", () => this.describe(v));
      button.addEventListener("pointerenter", () => this.describe(v));
      button.addEventListener("pointerleave", () => this.describe(this.value));
      button.addEventListener("blur", () => this.describe(this.value));
    });
    this.note = this.body.appendChild(el("div", "rv-anchor"));
    this.describe(undefined);
  }
  buildNumber() {
    this.input = this.body.appendChild(el("input", "rv-input"));
    Object.assign(this.input, { type: "number", min: this.question.min, max: this.question.max, step: this.isNumber ? "any" : 1 });
    this.input.setAttribute("aria-label", `${this.question.title || this.question.name}, ${this.question.min} to ${this.question.max}`);
    this.input.addEventListener("input", () => {
      const v = this.input.valueAsNumber, ok = (this.isNumber ? Number.isFinite(v) : Number.isInteger(v)) && v >= this.question.min && v <= this.question.max;
      this.input.setAttribute("aria-invalid", String(!ok && this.input.value !== ""));
      this.cell.set(ok ? v : undefined);
    });
    this.options = [];
  }
  anchor(value) { return (this.question.anchors || []).find((a) => a.value === value); }
  // The anchor of the step in hand; with none in hand, both ends, so that the line is never empty and never jumps.
  describe(value) {
    const anchor = this.anchor(value);
    this.note.replaceChildren();
    if (anchor) {
      this.note.appendChild(el("b", "", `${anchor.value} ${anchor.label || ""}`));
      if (anchor.description) this.note.appendChild(el("span", "", " " + anchor.description));
      return;
    }
    const ends = [this.anchor(this.question.min), this.anchor(this.question.max)];
    const line = this.note.appendChild(el("div", "rv-ends"));
    ends.forEach((a) => line.appendChild(el("span", "", a ? `${a.value} ${a.label || ""}` : "")));
  }
  choose(value) { const off = this.value === value; this.set(off ? undefined : value); if (!off) this.cell.chosen(); }
  update() {
    if (this.input) { if (document.activeElement !== this.input) this.input.value = this.value ?? ""; return; }
    this.press((i) => this.values[i] === this.value);
    this.describe(this.value);
  }
  focus() { if (this.input) this.input.focus(); else super.focus(); }
}

// Several of the categories.
class Several extends Widget {
  build() {
    const row = this.body.appendChild(el("div", "rv-chips"));
    this.question.categories.forEach((c, i) => this.option(row, c, keyOf(i), () => this.toggle(c), "rv-option chip"));
  }
  get has() { return (this.value || []).length > 0; }
  toggle(category) {
    const all = this.value || [];
    this.set(all.includes(category) ? all.filter((c) => c !== category) : [...all, category]);
  }
  update() { this.press((i) => (this.value || []).includes(this.question.categories[i])); }
}

const severitiesSaid = (question, value) => !question.severity_required || (value || []).every((e) => e.severity);
class Flags extends Widget {
  build() {
    const row = this.body.appendChild(el("div", "rv-chips"));
    this.question.categories.forEach((c, i) => this.option(row, c, keyOf(i), () => this.toggle(c), "rv-option chip"));
    this.rows = this.body.appendChild(el("div", "rv-rows"));
  }
  get has() { return (this.value || []).length > 0; }
  get complete() { return severitiesSaid(this.question, this.value); } // finding nothing is an answer
  toggle(category) {
    const all = this.value || [], rest = all.filter((f) => f.category !== category);
    this.set(rest.length < all.length ? rest : [...all, { category }]);
  }
  update() {
    const all = this.value || [];
    this.press((i) => all.some((f) => f.category === this.question.categories[i]));
    fillRows(this.rows, all, (f) => f.category, (f) => f.category, this.question.severity, (rest) => this.set(rest));
  }
}

// What was marked, as a list: severity, a word on it, and the way to take it away.
class Ranges extends Widget {
  build() {
    this.body.appendChild(el("p", "rv-hint", "Select words in the answer, or press M."));
    this.rows = this.body.appendChild(el("div", "rv-rows"));
  }
  get has() { return (this.value || []).length > 0; }
  get complete() { return severitiesSaid(this.question, this.value); }
  update() {
    const chars = this.cell.chars(), all = this.value || [], key = (r) => `${r.start}-${r.end}-${r.label}`;
    fillRows(this.rows, all, key, (r) => `${r.label}: \u201c${clip(chars.slice(r.start, r.end).join(""), 60)}\u201d`,
      this.question.severity, (rest) => this.set(rest), this.question.labels, (r) => this.cell.reveal(r));
    const newest = this.known ? all.findIndex((r) => !this.known.includes(key(r))) : -1;
    this.known = all.map(key);
    if (newest >= 0) this.rows.children[newest].scrollIntoView({ block: "nearest" });
  }
  set(value) { this.cell.set(value); this.update(); this.cell.redraw(); }
  focus() { this.node.focus(); }
}
const clip = (text, n) => (text.length > n ? text.slice(0, n - 1) + "\u2026" : text);

// Rows keep their fields while the person types in them: they are made anew only where other rows are there.
function fillRows(box, all, keyOfRow, title, severity, set, labels, reveal) {
  const keys = all.map(keyOfRow).join("\n");
  if (box.dataset.keys === keys) { box.current = all; paintSeverity(box, all); return; }
  box.dataset.keys = keys;
  box.current = all;
  box.replaceChildren(...all.map((entry, i) => {
    const row = el("div", "rv-row");
    if (labels) row.classList.add("hue" + (labels.indexOf(entry.label) % 6));
    const heading = row.appendChild(el(reveal ? "button" : "span", "rv-row-title", title(entry)));
    if (reveal) { heading.type = "button"; heading.title = "Show it in the answer"; heading.addEventListener("click", () => reveal(box.current[i])); }
    const change = (part) => set(box.current.map((e, j) => (j === i ? tidy({ ...e, ...part }) : e)));
    if (severity) row.appendChild(severityButtons(entry, change));
    const note = row.appendChild(el("input", "rv-input small"));
    note.placeholder = "Why? (optional)";
    note.value = entry.comment || "";
    note.setAttribute("aria-label", `Comment on ${title(entry)}`);
    note.addEventListener("input", () => change({ comment: note.value || undefined }));
    const away = row.appendChild(el("button", "rv-away", "\u00d7"));
    away.type = "button";
    away.setAttribute("aria-label", `Remove ${title(entry)}`);
    away.addEventListener("click", () => set(box.current.filter((_, j) => j !== i)));
    return row;
  }));
}
function severityButtons(entry, change) {
  const group = el("span", "rv-severity");
  group.setAttribute("role", "group"); group.setAttribute("aria-label", "Severity");
  for (const level of SEVERITIES) {
    const button = group.appendChild(el("button", level, level));
    button.type = "button"; button.dataset.level = level;
    button.setAttribute("aria-pressed", String(entry.severity === level));
    button.addEventListener("click", () => change({ severity: button.getAttribute("aria-pressed") === "true" ? undefined : level }));
  }
  return group;
}
function paintSeverity(box, all) {
  [...box.children].forEach((row, i) => row.querySelectorAll("[data-level]").forEach((b) =>
    b.setAttribute("aria-pressed", String(all[i].severity === b.dataset.level))));
}
const tidy = (o) => Object.fromEntries(Object.entries(o).filter(([, v]) => v !== undefined && v !== ""));

class Words extends Widget {
  build() {
    this.area = this.body.appendChild(el("textarea", "rv-input"));
    this.area.rows = 2;
    this.area.maxLength = 20_000;
    this.area.placeholder = this.question.required === false ? "Optional" : "";
    this.area.setAttribute("aria-label", this.question.title || this.question.name);
    this.area.addEventListener("input", () => this.cell.set(this.area.value.trim() ? this.area.value : undefined));
  }
  update() { if (document.activeElement !== this.area) this.area.value = this.value || ""; }
  focus() { this.area.focus(); }
}

// The answer itself, to be made better: what is left as it was says nothing.
class Correction extends Widget {
  build() {
    this.original = this.cell.chars().join("");
    this.area = this.body.appendChild(el("textarea", "rv-input correction"));
    this.area.rows = 4;
    this.area.dir = "auto";
    this.area.setAttribute("aria-label", `${this.question.title || this.question.name}, filled with the answer`);
    this.area.addEventListener("input", () => { this.cell.set(this.changed()); this.compare(); });
    this.shown = this.body.appendChild(el("div", "rv-diff"));
    this.shown.dir = "auto"; this.shown.hidden = true;
    this.shown.setAttribute("role", "group"); this.shown.setAttribute("aria-label", "What you changed");
    this.reset = this.body.appendChild(el("button", "rv-link", "Back to the answer as it was"));
    this.reset.type = "button"; this.reset.hidden = true;
    this.reset.addEventListener("click", () => { this.area.value = this.original; this.cell.set(undefined); this.compare(); this.area.focus(); });
  }
  get complete() { return true; }
  changed() { return this.area.value === normal(this.original) || !this.area.value.trim() ? undefined : this.area.value; }
  compare() {
    const changed = this.changed();
    this.area.classList.toggle("untouched", changed === undefined);
    this.shown.hidden = this.reset.hidden = changed === undefined;
    const tags = { same: "span", gone: "del", new: "ins" };
    this.shown.replaceChildren(...(changed === undefined ? [] : wordDiff(normal(this.original), changed).map((p) => el(tags[p.op], "", p.text))));
  }
  update() { if (document.activeElement !== this.area) this.area.value = this.value ?? this.original; this.compare(); }
  focus() { this.area.focus(); }
}
// A text area has line ends of its own.
const normal = (text) => text.replace(/\r\n?/g, "\n");

function inWords(question, value) {
  if (question.kind === "thumb") return value === 1 ? "Good" : "Bad";
  if (Array.isArray(value)) return value.map((v) => inWords(question, v)).join(", ");
  if (value && typeof value === "object") return value.category || value.label || JSON.stringify(value);
  return String(value);
}
const ICONS = {
  good: "M7 11v9H4v-9h3Zm0 0 4-8c1.5 0 2.5 1 2.3 2.6L13 9h5.5c1.3 0 2.2 1.2 1.9 2.4l-1.7 6.8c-.2 1-1.1 1.8-2.2 1.8H7",
  bad: "M17 13V4h3v9h-3Zm0 0-4 8c-1.5 0-2.5-1-2.3-2.6L11 15H5.500c-1.3 0-2.2-1.200-1.900-2.400l1.700-6.800C5.500 4.800 6.400 4 7.500 4H17",
  book: "M12 6c-2-1.500-5-2-9-2v14c4 0 7 .5 9 2 2-1.500 5-2 9-2V4c-4 0-7 .5-9 2Zm0 0v14",
  page: "M6 3h8l4 4v14H6V3Zm8 0v4h4M9 12h6M9 16h6",
};
function iconOf(name) {
  const icon = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "rv-icon" });
  icon.appendChild(svg("path", { d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linejoin": "round", "stroke-linecap": "round" }));
  return icon;
}
