// Several answers to one prompt: which of two is better, or their whole order. Letters name them in the order shown,
// which the server drew at random and stores.
const letter = (i) => String.fromCharCode(65 + i);

class Comparison extends Widget {
  get steps() {
    if (!this.question.strength) return [["A is better", 0], ["Equal", null], ["B is better", 1]];
    return [["A is much better", 0, 1], ["A is a little better", 0, 0.5], ["Equal", null], ["B is a little better", 1, 0.5], ["B is much better", 1, 1]];
  }
  build() {
    const column = this.body.appendChild(el("div", "rv-column"));
    this.steps.forEach(([text, preferred, strength], i) =>
      this.option(column, text, keyOf(i), () => this.choose(tidy({ preferred, strength }), i)));
    this.bad = this.option(column, "Both are bad", "0", () => this.toggleBad(), "rv-option quiet");
  }
  get has() { return this.value !== undefined && this.value !== null && "preferred" in this.value; }
  chosenStep() {
    const v = this.value;
    if (!this.has) return -1;
    return this.steps.findIndex(([, preferred, strength]) => preferred === v.preferred && (strength === undefined || strength === (v.strength ?? 1)));
  }
  choose(value, i) {
    const bad = this.value?.all_bad ? { all_bad: true } : {};
    if (this.chosenStep() === i) { this.set(this.value.all_bad ? { preferred: null, ...bad } : undefined); return; }
    this.set({ ...value, ...bad });
    this.cell.chosen();
  }
  // "Both are bad" alone says that neither is better; a preference may stand beside it.
  toggleBad() {
    const v = this.value || {};
    if (v.all_bad) { const { all_bad, ...rest } = v; this.set(rest.preferred === null ? undefined : rest); return; }
    this.set({ preferred: null, ...v, all_bad: true });
  }
  update() {
    const chosen = this.chosenStep();
    this.press((i) => (i === this.steps.length ? Boolean(this.value?.all_bad) : i === chosen));
  }
}

// Ranks by answer: a digit ranks the answer in hand and goes on to the next one; equal digits are a tie.
class Ranking extends Widget {
  build() {
    this.count = this.cell.count();
    this.row = 0;
    const grid = this.body.appendChild(el("div", "rv-ranks"));
    grid.style.setProperty("--columns", this.count);
    this.rows = Array.from({ length: this.count }, (_, i) => this.buildRow(grid, i));
    this.bad = this.option(this.body, "All are bad", "0", () => this.toggleBad(), "rv-option quiet");
    this.body.appendChild(el("p", "rv-hint", "1 is best; equal ranks are a tie. + best, \u2212 worst: the rest then ties between."));
  }
  buildRow(grid, i) {
    const row = grid.appendChild(el("div", "rv-rank-row"));
    row.setAttribute("role", "group"); row.setAttribute("aria-label", `Answer ${letter(i)}`);
    row.appendChild(el("b", "", letter(i)));
    const buttons = Array.from({ length: this.count }, (_, rank) => {
      const button = this.option(row, String(rank + 1), null, () => { this.row = i; this.rank(i, rank + 1); }, "rv-option step");
      button.setAttribute("aria-label", `Answer ${letter(i)}: rank ${rank + 1}`);
      button.addEventListener("focus", () => { this.row = i; this.showRow(); });
      return button;
    });
    return { row, buttons };
  }
  get ranks() { return this.value?.ranks || Array(this.count).fill(null); }
  get has() { return this.ranks.every((r) => r !== null); }
  rank(i, rank) {
    const ranks = [...this.ranks];
    ranks[i] = ranks[i] === rank ? null : rank;
    this.set(this.with(ranks));
  }
  with(ranks) { return tidy({ ranks, all_bad: this.value?.all_bad || undefined }); }
  extreme(best) {
    const ranks = [...this.ranks];
    ranks[this.row] = best ? 1 : this.count;
    const named = ranks.filter((r) => r !== null);
    const done = this.count > 2 && named.includes(1) && named.includes(this.count) && named.length === 2;
    this.set(this.with(done ? ranks.map((r) => r ?? 2) : ranks));
    this.go(1);
  }
  digit(n) {
    if (n === "0") { this.toggleBad(); return true; }
    if (Number(n) > this.count) return false;
    const ranks = [...this.ranks];
    ranks[this.row] = Number(n);
    this.set(this.with(ranks));
    if (this.row === this.count - 1 && this.has) this.cell.chosen();
    else this.go(1);
    return true;
  }
  key(event) {
    if (event.key === "+" || event.key === "=") { this.extreme(true); return true; }
    if (event.key === "-") { this.extreme(false); return true; }
    if (event.key === "ArrowDown" && this.row < this.count - 1) { this.go(1); return true; }
    if (event.key === "ArrowUp" && this.row > 0) { this.go(-1); return true; }
    return false;
  }
  go(step) { this.row = Math.max(0, Math.min(this.count - 1, this.row + step)); this.focus(); this.showRow(); }
  toggleBad() { this.set(tidy({ ranks: this.ranks, all_bad: this.value?.all_bad ? undefined : true })); }
  showRow() { this.rows.forEach(({ row }, i) => row.classList.toggle("here", i === this.row)); }
  update() {
    const ranks = this.ranks;
    this.rows.forEach(({ buttons }, i) => buttons.forEach((b, r) => b.setAttribute("aria-pressed", String(ranks[i] === r + 1))));
    this.bad.setAttribute("aria-pressed", String(Boolean(this.value?.all_bad)));
    this.showRow();
  }
  focus() { const { buttons } = this.rows[this.row]; (buttons.find((b) => b.getAttribute("aria-pressed") === "true") || buttons[0]).focus(); }
}
// 1, 3, 3 and 1, 2, 2 say the same: ranks without holes.
function dense(ranks) {
  const steps = [...new Set(ranks)].sort((a, b) => a - b);
  return ranks.map((r) => steps.indexOf(r) + 1);
}

const WIDGETS = { thumb: Choice, category: Choice, scale: Scale, number: Scale, choices: Several, flags: Flags, ranges: Ranges, text: Words, correction: Correction, comparison: Comparison, ranking: Ranking };
const isWhole = (question) => question.kind === "comparison" || question.kind === "ranking";
// A comparison is asked of two answers, a ranking of two and more.
const asked = (questions, { answers, questions: names, is_session }) => questions.filter((q) => names ? names.includes(q.name)
  : !isWhole(q) ? answers.length === 1 || is_session || q.per_answer !== false || q.kind === "text"
    : !is_session && (answers.length === 2 || (answers.length > 2 && q.kind === "ranking")));
// Whether an answer is among those for which a later question is asked.
const says = (said, values) => (Array.isArray(said) ? said.some((e) => values.includes(e?.category ?? e)) : values.includes(said));
