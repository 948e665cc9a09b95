// One answer's text in which ranges can be marked: with the mouse or a finger (select, then choose a label), or with the
// keyboard (arrows go by word, Shift extends, a number key marks).
const SEVERITIES = ["low", "medium", "high"];

class MarkedText {
  // `question` may be null: the text is then only shown. `get` and `set` read and write the ranges; `say` speaks;
  // `left` takes the focus on.
  constructor({ text, label, question, get, set, say, left }) {
    Object.assign(this, { text, question, get, set, say, left });
    this.chars = Array.from(text);
    this.node = el("div", "rv-text-wrap");
    this.box = this.node.appendChild(el("div", "rv-text"));
    this.box.dir = "auto";
    this.box.setAttribute("role", "group");
    this.box.setAttribute("aria-label", label);
    if (question) this.listen();
    this.draw();
  }
  marks() {
    const labels = this.question ? this.question.labels : [];
    return (this.get() || []).map((r, i) => ({ ...r, id: i, number: labels.indexOf(r.label) + 1, hue: labels.indexOf(r.label) % 6 }));
  }
  draw() { drawText(this.box, this.chars, this.marks(), this.differs); }
  // Scroll to a range and let it flash.
  reveal({ start }) {
    this.node.classList.remove("rv-clipped");
    const run = [...this.box.children].filter((r) => Number(r.dataset.start) <= start).pop();
    if (!run) return;
    run.scrollIntoView({ block: "center" });
    run.classList.add("rv-flash");
    setTimeout(() => run.classList.remove("rv-flash"), 1200);
  }
  listen() {
    this.box.tabIndex = 0;
    this.box.setAttribute("aria-describedby", "rv-mark-help");
    // the browser changes the selection after this event
    this.box.addEventListener("pointerup", () => { clearTimeout(this.offerSoon); this.offerSoon = setTimeout(() => this.offer(), 0); });
    this.box.addEventListener("focus", () => { this.words = null; });
    this.box.addEventListener("blur", () => this.leave());
    this.node.addEventListener("pointerdown", (e) => { if (this.popover && !this.popover.contains(e.target)) this.close(); });
    // a finger's selection grows by handles that no pointer event reports
    this.onSelection = () => { if (!this.keyboard && matchMedia("(pointer: coarse)").matches) this.offer(); };
    document.addEventListener("selectionchange", this.onSelection);
  }
  stop() { clearTimeout(this.offerSoon); if (this.onSelection) document.removeEventListener("selectionchange", this.onSelection); }
  start() {
    this.node.classList.remove("rv-clipped");
    this.box.focus({ preventScroll: false });
    this.keyboard = true;
    this.box.setAttribute("role", "application");
    this.words = wordRanges(this.text);
    if (this.words.length) this.choose(0, 0);
  }
  leave() {
    if (!this.keyboard) return;
    this.keyboard = false;
    this.box.setAttribute("role", "group");
    this.close();
    getSelection().removeAllRanges();
  }
  // ------------------------------------------------------------------------------------------ keyboard
  key(event) {
    if (!this.keyboard) {
      if (!event.key.startsWith("Arrow") || event.shiftKey) return false;
      if (event.key !== "ArrowRight" && event.key !== "ArrowLeft") return false;
      this.start();
      return true;
    }
    if (event.key === "Escape") { this.leave(); this.left(); return true; }
    if (event.key === "Backspace" || event.key === "Delete") { this.removeTouched(); return true; }
    if (event.key === "Enter" || event.key === " ") { this.mark(0); return true; }
    if (/^[1-9]$/.test(event.key)) { this.mark(Number(event.key) - 1); return true; }
    return this.move(event);
  }
  move(event) {
    const steps = { ArrowRight: 1, ArrowLeft: -1 };
    if (!this.words.length) return false;
    if (event.altKey && steps[event.key]) { this.nudge(steps[event.key], event.shiftKey); return true; }
    const to = event.key in steps ? this.focus + steps[event.key] : event.key === "Home" ? 0
      : event.key === "End" ? this.words.length - 1
      : event.key === "ArrowUp" ? this.line(-1) : event.key === "ArrowDown" ? this.line(1) : null;
    if (to === null) return false;
    const focus = Math.max(0, Math.min(this.words.length - 1, to));
    this.choose(event.shiftKey ? this.anchor : focus, focus);
    return true;
  }
  choose(anchor, focus) {
    this.anchor = anchor; this.focus = focus;
    const first = this.words[Math.min(anchor, focus)], last = this.words[Math.max(anchor, focus)];
    this.show(first.start, last.end);
  }
  show(from, to) {
    this.from = from; this.to = to;
    selectRange(this.box, this.chars, from, to);
    const at = placeOf(this.box, this.chars, from).node.parentElement;
    if (at && at !== this.box) this.keepInView();
    this.say(this.chars.slice(from, to).join("").slice(0, 200) + ", selected");
    this.offer();
  }
  keepInView() {
    const r = getSelection().getRangeAt(0).getBoundingClientRect();
    if (r.top < 70 || r.bottom > innerHeight - 90) {
      const node = getSelection().focusNode;
      (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).scrollIntoView({ block: "center" });
    }
  }
  // One end of the selection by one character as a reader sees it.
  nudge(step, atStart) {
    const parts = [...graphemes.segment(this.text)].map((s) => Array.from(s.segment).length);
    let edge = 0;
    const edges = [0, ...parts.map((n) => (edge += n))];
    const now = atStart ? this.from : this.to;
    const next = step > 0 ? edges.find((e) => e > now) : edges.filter((e) => e < now).pop();
    const [from, to] = atStart ? [next, this.to] : [this.from, next];
    if (next !== undefined && from < to) this.show(from, to);
  }
  rectOf(word) {
    const r = document.createRange(), a = placeOf(this.box, this.chars, word.start), b = placeOf(this.box, this.chars, word.end);
    r.setStart(a.node, a.offset); r.setEnd(b.node, b.offset);
    return r.getBoundingClientRect();
  }
  // The word above or below: the nearest one on the next drawn line.
  line(step) {
    const here = this.rectOf(this.words[this.focus]), x = (here.left + here.right) / 2;
    let best = null, top = null, distance = Infinity;
    for (let i = this.focus + step; i >= 0 && i < this.words.length; i += step) {
      const r = this.rectOf(this.words[i]);
      if (Math.abs(r.top - here.top) < here.height / 2) continue;
      if (top === null) top = r.top; else if (Math.abs(r.top - top) > r.height / 2) break;
      const d = Math.abs((r.left + r.right) / 2 - x);
      if (d < distance) { best = i; distance = d; }
    }
    return best === null ? (step < 0 ? 0 : this.words.length - 1) : best;
  }
  // ---------------------------------------------------------------------------------------- the labels
  // A key that is pressed before the labels are there means them too.
  offerNow() { if (this.offerSoon) this.offer(); }
  offer() {
    clearTimeout(this.offerSoon);
    this.offerSoon = null;
    const range = selectedRange(this.box, this.chars);
    this.close();
    if (!range) return;
    this.range = range;
    const pop = el("div", "rv-pop");
    pop.setAttribute("role", "toolbar"); pop.setAttribute("aria-label", "Mark as");
    this.question.labels.forEach((label, i) => {
      const button = pop.appendChild(el("button", "hue" + (i % 6)));
      button.type = "button"; button.tabIndex = -1;
      button.appendChild(el("i", "dot")); button.appendChild(el("span", "", label));
      if (i < 9) button.appendChild(el("kbd", "", i + 1));
      button.addEventListener("pointerdown", (e) => e.preventDefault());
      button.addEventListener("click", () => this.mark(i));
    });
    const r = getSelection().getRangeAt(0), rects = r.getClientRects(), last = rects[rects.length - 1] || r.getBoundingClientRect();
    const home = this.node.getBoundingClientRect();
    pop.style.top = `${last.bottom - home.top + 8}px`;
    this.popover = this.node.appendChild(pop);
    pop.style.left = `${Math.max(0, Math.min(last.left - home.left, home.width - pop.offsetWidth))}px`;
  }
  close() { if (this.popover) this.popover.remove(); this.popover = null; }
  get isOffering() { return Boolean(this.popover); }
  mark(i) {
    const label = this.question.labels[i], range = selectedRange(this.box, this.chars) || this.range;
    if (!label || !range) return;
    const all = this.get() || [], same = (r) => r.start === range.start && r.end === range.end && r.label === label;
    if (!all.some(same)) this.set([...all, { ...range, label }].sort((a, b) => a.start - b.start || a.end - b.end));
    this.say(`Marked as ${label}`);
    this.close();
    this.draw();
    if (this.keyboard) selectRange(this.box, this.chars, range.start, range.end);
    else getSelection().removeAllRanges();
  }
  removeTouched() {
    const rest = (this.get() || []).filter((r) => r.end <= this.from || r.start >= this.to);
    if (rest.length === (this.get() || []).length) return;
    this.set(rest);
    this.draw();
    this.say("Mark removed");
    selectRange(this.box, this.chars, this.from, this.to);
  }
}
