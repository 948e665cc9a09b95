// What of the page depends on earlier answers, and how the person wants to see it: the part of `Review` that sends nothing but notes.
class Views {
  // ------------------------------------------------------------------------------------------------ conditions
  get inView() { return this.widgets.filter((w) => !w.node.hidden); }
  // Whether a question is asked, by the answers so far: of one answer, or (null) of all.
  isAsked(q, i, answers) {
    if (!q.when) return true;
    const before = this.queue.questions.find((b) => b.name === q.when.question), said = answers[before.name], n = this.current.answers.length;
    if (!this.isAsked(before, i, answers)) return false;
    if (n === 1 || before.per_answer === false) return says(said, q.when.is);
    return i === null ? (said || []).some((one) => says(one, q.when.is)) : says(said?.[i], q.when.is);
  }
  showConditions() { for (const w of this.widgets) w.node.hidden = !this.isAsked(w.question, w.at, this.answers); }
  // ------------------------------------------------------------------------------------------------------ views
  press(key, on) { this.page.left.querySelector(`.rv-views [data-key="${key}"]`)?.setAttribute("aria-pressed", String(on)); }
  // Two answers word by word, scrolled together.
  compareTexts() {
    if (this.texts.length !== 2 || this.current.is_session) return;
    const grid = this.page.left.querySelector(".rv-side-by-side"), on = grid.classList.toggle("is-compared");
    const found = on ? differences(this.texts[0].text, this.texts[1].text) : [[], []];
    const boxes = this.texts.map((t, i) => { t.differs = found[i]; t.draw(); return t.node; });
    boxes.forEach((box, i) => { box.onscroll = on ? () => { const other = boxes[1 - i]; other.scrollTop = (box.scrollTop / Math.max(1, box.scrollHeight - box.clientHeight)) * (other.scrollHeight - other.clientHeight); } : null; });
    this.press("D", on);
    const count = found[0].length + found[1].length;
    if (on) this.say(`${count} difference${count === 1 ? "" : "s"}`);
  }
  toggleMarkdown() {
    const shown = this.page.left.querySelectorAll(".rv-rendered");
    this.press("R", !shown.length);
    if (shown.length) { shown.forEach((s) => { s.parentElement.classList.remove("is-rendered"); s.remove(); }); return; }
    for (const t of this.texts) {
      const box = el("div", "rv-rendered");
      box.dir = "auto"; box.setAttribute("aria-label", "As Markdown"); box.setAttribute("role", "group");
      drawMarkdown(box, t.text);
      t.node.after(box);
      box.parentElement.classList.add("is-rendered");
    }
  }
  toggleBeside() {
    if (this.current?.answers.length !== 1) return;
    this.saving.kept.put("view/beside", !this.page.left.classList.contains("is-beside"));
    this.showBeside();
  }
  // A long text stands beside its answer unless the person chose otherwise.
  showBeside() {
    const a = this.current, chosen = this.saving.kept.get("view/beside");
    const asked = [...(a.messages || [])].reverse().find((m) => m.role === "user");
    const on = a.answers.length === 1 && !a.is_session && (chosen ?? (asked?.text || "").length > LONG_QUESTION);
    this.page.left.classList.toggle("is-beside", on);
    this.press("V", on);
  }
  note() {
    const a = this.current;
    if (!a) return;
    noteDialog(this, async (text) => {
      try {
        await reviewCall("POST", `assignments/${encodeURIComponent(a.assignment_id)}/note`, { text });
        this.notice("Sent: whoever leads the queue reads it with the answer.", 2500);
      } catch (e) { if (!(e instanceof Refused)) throw e; this.notice(`The note is not sent: ${e.message}`); }
    });
  }
}
