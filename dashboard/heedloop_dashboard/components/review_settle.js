// A reviewer settles one item: everybody's judgements beside the answer, and the reviewer's own word over them, with a reason.
class Settling extends Review {
  async work() {
    const [queue, item] = await Promise.all([
      reviewCall("GET", `queues/${encodeURIComponent(this.data.queue)}`), reviewCall("GET", `items/${encodeURIComponent(this.data.item)}`)]);
    this.queue = queue.queue || queue;
    this.item = item.item || item;
    this.root.replaceChildren();
    this.page = drawFrame(this);
    this.page.title.prepend(this.wayBack());
    this.page.title.lastChild.textContent = visible(`Settle: ${this.queue.name}`);
    this.page.bar.style.visibility = "hidden"; // its place keeps the distance
    this.page.small.remove();
    this.page.note.remove();
    this.page.save.firstChild.textContent = "Save adjudication";
    this.reason = el("textarea", "rv-input");
    this.reason.rows = 2; this.reason.maxLength = 10_000; this.reason.placeholder = "Why this overrides the others";
    this.reason.setAttribute("aria-label", "Reason");
    this.reason.value = this.item.adjudicated?.reason || "";
    const box = el("div", "rv-reason");
    box.append(el("label", "", "Reason"), this.reason);
    this.page.questions.after(box);
    const kept = this.saving.kept.get("past/" + this.item.item_id);
    const assignment = { assignment_id: this.item.item_id, answers: this.item.answers, is_session: this.item.is_session, messages: this.item.messages, state: this.item.state };
    this.past = {}; // nothing of this is an annotator's draft
    this.page.banner = () => {};
    this.show(assignment, kept || this.item.adjudicated?.answers || {}, "");
    this.page.save.firstChild.textContent = "Save adjudication";
    this.drawJudgements();
    if (this.data.admin) {
      const b = this.page.save.parentElement.appendChild(el("button", "rv-button", "Remove from the queue"));
      b.type = "button";
      b.addEventListener("click", () => this.remove());
    }
    if (this.item.adjudicated) this.offerGold();
  }
  wayBack() {
    const a = link(el("a", "rv-up", "\u2039"), { page: "review-queues", params: { queue: this.data.queue } }, this.open);
    a.title = "All answers of the queue"; a.setAttribute("aria-label", "All answers of the queue");
    return a;
  }
  drawJudgements() {
    const { judgements, adjudicated, disagreements } = this.item;
    const box = el("section", "rv-card rv-judgements");
    box.setAttribute("aria-label", "Judgements");
    box.appendChild(el("h3", "", `${judgements.length} judgement${judgements.length === 1 ? "" : "s"}`));
    for (const skip of this.item.skips || []) box.appendChild(el("p", "muted rv-skip", `${skip.annotator} skipped it${skip.reason ? ": " + skip.reason : ", without a reason"}`));
    for (const note of this.item.notes || []) box.appendChild(el("p", "rv-note", `${note.annotator} writes: ${note.text}`));
    const scroll = box.appendChild(el("div", "rv-scroll"));
    scroll.tabIndex = 0; scroll.setAttribute("role", "region"); scroll.setAttribute("aria-label", "All annotators' answers");
    const table = scroll.appendChild(el("table")), head = table.appendChild(el("thead")).appendChild(el("tr"));
    head.appendChild(el("th", "", "Question")).scope = "col";
    const columns = judgements.map((j) => ({ name: j.annotator, answers: j.answers })).concat(adjudicated ? [{ name: `${adjudicated.reviewer} (settled)`, answers: adjudicated.answers }] : []);
    for (const column of columns) head.appendChild(el("th", "", column.name)).scope = "col";
    const body = table.appendChild(el("tbody"));
    for (const question of asked(this.queue.questions, this.item)) {
      const row = body.appendChild(el("tr", (disagreements || []).includes(question.name) ? "differs" : ""));
      row.appendChild(el("th", "", question.title || question.name)).scope = "row";
      for (const column of columns) row.appendChild(el("td", "", this.inRow(question, column.answers[question.name])));
    }
    const last = body.appendChild(el("tr"));
    last.appendChild(el("th", "sr-row", "")).scope = "row";
    for (const column of columns) {
      const b = last.appendChild(el("td")).appendChild(el("button", "rv-button", "Start from this"));
      b.type = "button"; b.setAttribute("aria-label", `Begin with the answers of ${column.name}`);
      b.addEventListener("click", () => this.begin(column.answers));
      if (!judgements.some((j) => j.annotator === column.name)) continue;
      const back = b.parentElement.appendChild(el("button", "rv-button", "Send back"));
      back.type = "button"; back.setAttribute("aria-label", `Send the judgement of ${column.name} back to them, with your reason as the remark`);
      back.addEventListener("click", () => this.sendBack(column.name));
    }
    this.page.left.after(box);
  }
  inRow(question, value) {
    if (value === undefined || value === null) return "\u2013";
    if (question.kind === "correction" || question.kind === "text") return clip([value].flat().filter(Boolean).join(" / "), 160);
    if (question.kind === "ranking") return value.ranks.map((r, i) => letter(i) + r).join(" ") + (value.all_bad ? ", all bad" : "");
    if (question.kind === "comparison") return (value.preferred === null ? "equal" : letter(value.preferred) + " is better") + (value.all_bad ? ", both bad" : "");
    if (question.kind === "ranges") return [value].flat(2).filter(Boolean).map((r) => `${r.label}: \u201c${clip(Array.from(this.item.answers[0].text).slice(r.start, r.end).join(""), 30)}\u201d`).join("; ") || "none";
    return inWords(question, value) || "none";
  }
  // The reason field holds the remark: it is what the annotator reads.
  async sendBack(annotator) {
    if (!this.reason.value.trim()) { this.reason.focus(); this.notice("Say why: the annotator reads it.", 2500); return; }
    try {
      this.item = await reviewCall("POST", `items/${encodeURIComponent(this.item.item_id)}/send-back`, { annotator, remark: this.reason.value.trim() });
      this.reason.value = "";
      this.page.left.parentElement.querySelector(".rv-judgements")?.remove();
      this.drawJudgements();
      this.notice(`Sent back: ${annotator} is asked first, with your remark.`, 3500);
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.notice(`Not sent back: ${e.message}`);
    }
  }
  async remove() {
    try {
      await reviewCall("POST", `queues/${encodeURIComponent(this.data.queue)}/items/remove`, { item_ids: [this.item.item_id] });
      this.notice("It is no longer in the queue; its judgements remain as feedback.", 3500);
      await this.offerNext();
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.notice(`Not removed: ${e.message}`);
    }
  }
  begin(answers) {
    this.saving.kept.put("past/" + this.item.item_id, answers);
    this.show(this.current, answers, "");
    this.page.save.firstChild.textContent = "Save adjudication";
  }
  async save() {
    const missing = this.inView.find((w) => !w.complete);
    if (missing) { this.missing(missing); return; }
    if (!this.reason.value.trim()) { this.reason.focus(); this.notice("Say why.", 2500); return; }
    try {
      const reply = await reviewCall("POST", `items/${encodeURIComponent(this.item.item_id)}/adjudicate`, { answers: this.clean(), reason: this.reason.value.trim() });
      this.item = reply.item || reply;
      this.saving.kept.drop("past/" + this.item.item_id);
      this.page.left.parentElement.querySelector(".rv-judgements")?.remove();
      this.drawJudgements();
      this.notice("Saved: your word stands over the others, which stay in the history.", 3500);
      this.offerGold();
      await this.offerNext();
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.notice(`Not saved: ${e.message}`);
    }
  }
  // A settled answer may teach: mixed in unknown to annotators, or first, with the right judgement told afterwards.
  offerGold() {
    if (!this.data.admin || this.page.gold) return;
    this.page.gold = el("div", "rv-small");
    this.page.save.after(this.page.gold);
    for (const [text, training] of [["Use as gold", false], ["Use for training", true]]) {
      const b = this.page.gold.appendChild(el("button", "rv-button", text));
      b.type = "button";
      b.addEventListener("click", () => this.makeGold(training));
    }
  }
  async makeGold(training) {
    const { targets, adjudicated } = this.item;
    try {
      await reviewCall("POST", `queues/${encodeURIComponent(this.data.queue)}/gold`, { items: [{ targets, answers: adjudicated.answers, why: adjudicated.reason, training }] });
      this.notice(training ? "It comes first to every annotator who has not judged it, and says what was right." : "It is mixed in by the queue's share of gold answers.", 4000);
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.notice(`Not made: ${e.message}`);
    }
  }
  async offerNext() {
    const page = await reviewCall("GET", `queues/${encodeURIComponent(this.data.queue)}/items?state=disagreement&limit=1`);
    this.page.next?.remove();
    const item = page.items[0];
    const target = item ? { page: "review-queues", params: { queue: this.data.queue, item: item.item_id } } : { page: "review-queues", params: { queue: this.data.queue } };
    this.page.next = this.page.save.parentElement.appendChild(link(el("a", "rv-button", item ? "Next disagreement \u2192" : "No disagreement is left"), target, this.open));
    this.page.next.focus();
  }
  askWhySkip() {} note() {} undo() {} back() {} leavePast() {}
}
