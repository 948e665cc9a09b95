// The annotator's page: one answer after another, without a round trip of waiting where one is at hand.
const AT_HAND = 3;

class Review extends Views {
  constructor(root, data, open) {
    super();
    Object.assign(this, { root, data, open, line: [], done: [], known: new Map(), texts: [], widgets: [], past: null, progress: null });
    root.classList.add("rv");
    this.saving = new Saving(data.who, {
      state: (word, detail) => this.showState(word, detail),
      wants: (entry) => this.wants(entry),
      stored: (entry, reply) => this.stored(entry, reply),
      refused: (entry, error) => this.refused(entry, error),
      drafted: (id, reply) => this.drafted(id, reply),
      draftRefused: (id, error) => { if (this.current?.assignment_id === id) this.notice(`${error.message} What you entered stays in this browser.`); },
      judgedElsewhere: (id) => this.judgedElsewhere(id),
    });
    this.keyboard = new Keyboard(this);
    this.onVisible = () => this.tick();
    document.addEventListener("visibilitychange", this.onVisible);
  }
  stop() {
    this.keyboard.stop(); this.saving.stop();
    this.texts.forEach((t) => t.stop());
    document.removeEventListener("visibilitychange", this.onVisible);
    clearTimeout(this.retry);
    this.dialog?.close();
    this.stopped = true;
  }
  get isWorking() { return Boolean(this.page); }
  async start() {
    try {
      if (!this.data.queue) await this.list();
      else await this.work();
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.failed(e);
    }
  }
  failed(e) {
    if (this.stopped) return;
    this.root.replaceChildren(el("h2", "rv-title", "Review"), el("p", "rv-empty", e.message));
    if (e.status === 401) { const a = this.root.appendChild(el("a", "rv-button", "Sign in")); a.href = "./sign-in?next=" + encodeURIComponent(location.pathname + location.search); return; }
    if (!e.isPassing) { this.root.appendChild(link(el("a", "rv-button", "All queues"), { page: "review" }, this.open)); return; }
    this.root.appendChild(el("p", "muted", "This page tries again by itself."));
    this.retry = setTimeout(() => this.start(), 2000);
  }
  async list() {
    const { queues } = await reviewCall("GET", "queues");
    this.root.replaceChildren();
    drawQueues(this.root, queues, this.open);
    await this.saving.pump();
    if (this.unsaid) this.root.prepend(el("p", "rv-banner", this.unsaid.join(" ")));
  }
  async work() {
    const path = `queues/${encodeURIComponent(this.data.queue)}`;
    this.queue = await reviewCall("GET", path);
    this.queue = this.queue.queue || this.queue;
    await this.saving.pump(); // what an earlier visit could not send goes first
    const reply = await reviewCall("POST", `${path}/next`, { count: AT_HAND, holding: this.holding() });
    this.root.replaceChildren();
    this.page = drawFrame(this);
    this.page.title.prepend(this.wayBack());
    this.take(reply);
    this.next("");
    if (this.unsaid) this.notice(this.unsaid.join(" "));
  }
  wayBack() {
    const a = link(el("a", "rv-up", "\u2039"), { page: "review" }, this.open);
    a.title = "All queues"; a.setAttribute("aria-label", "All queues");
    return a;
  }
  // ------------------------------------------------------------------------------------------ the line of answers
  holding() {
    const waiting = this.saving.waiting.map((n) => this.saving.kept.get(n)?.id);
    return [...new Set([...this.line.map((a) => a.assignment_id), ...waiting.filter(Boolean)])];
  }
  wants(entry) {
    if (!this.queue || entry.queue !== this.queue.queue_id) return { next: 0, holding: [] };
    return { next: Math.max(0, Math.min(3, AT_HAND - this.line.length)), holding: this.holding().filter((id) => id !== entry.id) };
  }
  take(reply) {
    for (const a of reply.assignments || []) {
      if (this.saving.isWaiting(a.assignment_id) || this.line.some((b) => b.assignment_id === a.assignment_id)) continue;
      if (this.known.get(a.assignment_id)?.isSent) continue;
      this.known.set(a.assignment_id, a);
      this.line.push(a);
    }
    if (reply.progress) this.progress = reply.progress;
    this.showProgress();
  }
  next(said) {
    this.past = null;
    const a = this.line[0];
    if (a) this.show(a, this.saving.draftOf(a.assignment_id) || a.draft || {}, said);
    else if (this.saving.waiting.length) this.showWaiting();
    else this.showEnd();
  }
  show(assignment, answers, said) {
    this.current = assignment;
    this.answers = structuredClone(answers);
    this.undrawn();
    this.root.dataset.assignment = assignment.assignment_id;
    this.drawQuestions(assignment);
    this.page.columns.classList.remove("is-waiting", "is-ended");
    this.page.columns.classList.toggle("is-wide", assignment.answers.length > 1 && !assignment.is_session);
    this.showBeside();
    this.page.save.firstChild.textContent = this.past ? "Save the change" : "Save and next";
    this.page.banner(this.past);
    this.clock = { sum: 0, since: document.visibilityState === "visible" ? performance.now() : null };
    this.page.questions.scrollTop = 0;
    this.showProgress();
    this.showVersion(assignment);
    if (assignment.remark) this.notice(`Sent back to you: ${assignment.remark}`);
    if (this.root.getBoundingClientRect().top < 0) this.root.scrollIntoView({ block: "start" });
    this.showConditions();
    const open = this.inView;
    const first = open.find((w) => w.options.length && !w.has) || open.find((w) => w.options.length);
    if (first) { this.setActive(first); first.options[0].focus({ preventScroll: true }); } else this.setActive(this.widgets[0]);
    const text = clip(assignment.answers.map((a) => a.text).join(" \u2026 "), 200);
    this.say(`${said ? said + " " : ""}${this.page.count.textContent}. The answer: ${text}`);
  }
  drawQuestions(assignment) {
    const n = assignment.answers.length, parts = [];
    const perAnswer = (q) => n > 1 && !isWhole(q) && q.per_answer !== false;
    const ranging = this.queue.questions.filter((q) => q.kind === "ranges");
    this.widgets = [];
    this.page.questions.replaceChildren();
    const ranges = ranging.length ? (i) => this.rangesOf(ranging, perAnswer, i) : null;
    parts.push(...drawAnswers(this, assignment, ranges));
    this.texts = parts.map((p) => p.marked);
    for (const q of asked(this.queue.questions, assignment)) {
      const Kind = WIDGETS[q.kind];
      if (!Kind) { this.page.questions.appendChild(el("p", "rv-help", `This page cannot ask a question of the kind ${q.kind}.`)); continue; }
      const cells = perAnswer(q) ? assignment.answers.map((_, i) => i) : [null];
      for (const i of cells) {
        const widget = new Kind(q, this.cell(q, i));
        widget.node.tabIndex = -1;
        widget.at = i;
        widget.node.addEventListener("focusin", () => this.setActive(widget));
        if (i !== null) widget.node.querySelector("legend").appendChild(el("span", "sr", `, answer ${letter(i)}`));
        // a better answer is written where it is wide: under the answer
        (i !== null ? parts[i].slot : q.kind === "correction" && n === 1 ? parts[0].slot : this.page.questions).appendChild(widget.node);
        this.widgets.push(widget);
      }
    }
    this.page.questions.hidden = !this.page.questions.children.length;
  }
  undrawn() { this.texts.forEach((t) => t.stop()); this.texts = []; }
  // Where one question's answer for one of the answers (null: for all together) is kept.
  cell(q, i) {
    const app = this, at = i ?? 0, suggestion = this.current.suggestions?.[q.name];
    return {
      suggestion: i !== null && Array.isArray(suggestion) ? suggestion[i] : suggestion,
      get: () => (i === null ? app.answers[q.name] : app.answers[q.name]?.[i] ?? undefined),
      set: (value) => app.change(q, i, value),
      chars: () => (app.texts[at] ? app.texts[at].chars : Array.from(app.current.answers[at]?.text || "")),
      redraw: () => app.texts[at].draw(),
      mark: () => app.mark(at),
      reveal: (range) => app.texts[at].reveal(range),
      count: () => app.current.answers.length,
      chosen: () => app.advance(),
    };
  }
  // All questions about ranges share the text: a label says whose range it is.
  rangesOf(ranging, perAnswer, i) {
    const cells = ranging.map((q) => ({ q, cell: this.cell(q, perAnswer(q) ? i : null) }));
    return {
      question: { labels: ranging.flatMap((q) => q.labels) },
      get: () => cells.flatMap(({ cell }) => cell.get() || []),
      set: (all) => { for (const { q, cell } of cells) cell.set(all.filter((r) => q.labels.includes(r.label))); this.widgets.forEach((w) => w.question.kind === "ranges" && w.update()); },
    };
  }
  change(q, i, value) {
    const empty = value === undefined || (Array.isArray(value) && !value.length);
    if (i !== null) {
      const all = Array.from({ length: this.current.answers.length }, (_, j) => this.answers[q.name]?.[j] ?? null);
      all[i] = empty ? null : value;
      if (all.every((v) => v === null)) delete this.answers[q.name]; else this.answers[q.name] = all;
    } else if (empty) delete this.answers[q.name];
    else this.answers[q.name] = value;
    this.showConditions();
    const id = this.current.assignment_id;
    if (this.past) this.saving.kept.put("past/" + id, this.answers);
    else this.saving.draft(id, structuredClone(this.answers));
  }
  // ----------------------------------------------------------------------------------------- questions in hand
  active() { return this.widgets.find((w) => w.node.contains(document.activeElement)) || this.activeWidget; }
  setActive(widget) {
    this.activeWidget = widget;
    this.widgets.forEach((w) => w.node.classList.toggle("active", w === widget));
  }
  advance() {
    const open = this.inView, at = open.indexOf(this.active());
    const following = open.slice(at + 1).find((w) => w.options.length && !w.has && !["text", "correction", "ranges"].includes(w.question.kind));
    if (following) following.focus();
  }
  moveQuestion(step) {
    const open = this.inView, following = open[open.indexOf(this.active()) + step];
    if (!following) return;
    if (following instanceof Ranking) following.row = step > 0 ? 0 : following.count - 1;
    following.focus();
    following.node.scrollIntoView({ block: "nearest" });
  }
  toQuestion(field) { (field.closest("fieldset") || this.page.right).focus(); }
  afterMarking() { (this.widgets.find((w) => w.question.kind === "ranges") || this.active())?.node.focus({ preventScroll: true }); }
  edit() { this.widgets.find((w) => w.question.kind === "correction")?.focus(); }
  mark(i) {
    const text = this.texts[i ?? 0];
    if (text?.question) text.start(); else this.say("This queue asks for no marks.");
  }
  toggle(selector) { const box = this.root.querySelector(selector); if (box) { box.open = !box.open; box.scrollIntoView({ block: "nearest" }); } }
  help() { helpDialog(this); }
  // --------------------------------------------------------------------------------------------- save, skip, undo
  save() {
    if (!this.current || this.page.columns.classList.contains("is-waiting")) return;
    const missing = this.inView.find((w) => !w.complete);
    if (missing) { this.missing(missing); return; }
    if (this.past) { this.savePast(); return; }
    this.send("submit", { answers: this.clean() });
  }
  missing(widget) {
    const title = widget.question.title || widget.question.name;
    widget.node.classList.add("missing");
    setTimeout(() => widget.node.classList.remove("missing"), 1600);
    widget.focus();
    widget.node.scrollIntoView({ block: "nearest" });
    this.notice(`\u201c${title}\u201d is still open.`, 2500);
  }
  // As the server takes it: ranks without holes, an empty list where nothing was to be flagged or marked.
  clean() {
    const answers = structuredClone(this.answers), n = this.current.answers.length;
    for (const q of asked(this.queue.questions, this.current)) {
      if (q.when && answers[q.name] !== undefined) {
        const several = n > 1 && q.per_answer !== false && !isWhole(q);
        if (several) answers[q.name] = answers[q.name].map((v, i) => (this.isAsked(q, i, answers) ? v : null));
        if (several ? answers[q.name].every((v) => v === null) : !this.isAsked(q, null, answers)) delete answers[q.name];
        if (answers[q.name] === undefined) continue;
      }
      if (q.kind === "ranking" && answers[q.name]) {
        if (answers[q.name].ranks.some((r) => r === null)) delete answers[q.name];
        else answers[q.name].ranks = dense(answers[q.name].ranks);
      }
      if (q.kind === "comparison" && answers[q.name] && !("preferred" in answers[q.name])) delete answers[q.name];
      if ((q.kind === "flags" || q.kind === "ranges") && q.required !== false && !q.when) {
        const several = n > 1 && q.per_answer !== false;
        answers[q.name] = several ? Array.from({ length: n }, (_, i) => answers[q.name]?.[i] ?? []) : answers[q.name] ?? [];
      }
    }
    return answers;
  }
  // What the person had before them: the guideline's version, the judgement that it changes, and the very texts.
  shownWith(a) {
    const hashes = a.answers.map((answer) => answer.hash);
    const version = Math.max(a.guideline_version || 0, this.queue.guideline?.version || 0); // the page shows the queue's newest
    return { guideline_version: version, revision: a.revision, ...(hashes.every(Boolean) ? { answer_hashes: hashes } : {}) };
  }
  askWhySkip() { if (this.current && !this.past) skipDialog(this); }
  skip(reason) { this.send("skip", { reason }); }
  send(kind, body) {
    const a = this.current;
    if (kind === "submit") Object.assign(body, this.shownWith(a), { duration_ms: Math.round(this.elapsed()) });
    this.line = this.line.filter((b) => b !== a);
    this.done.push(a.assignment_id);
    a.isSent = true;
    this.current = null;
    this.saving.send({ id: a.assignment_id, queue: this.queue.queue_id, kind, body });
    this.next(kind === "skip" ? "Skipped." : "Saved.");
  }
  stored(entry, reply) {
    if (!this.queue || entry.queue !== this.queue.queue_id || !this.page) return;
    this.take(reply);
    if (reply.training) { const judged = this.known.get(entry.id); if (judged) trainingDialog(this, judged, reply.training); }
    if (!this.current && this.line.length) this.next("");
    else if (!this.current && this.saving.waiting.length <= 1) setTimeout(() => { if (!this.current) this.more(); }, 0);
  }
  // The line is empty: ask once more, since leases of others may have ended.
  async more() {
    try {
      const reply = await reviewCall("POST", `queues/${encodeURIComponent(this.queue.queue_id)}/next`, { count: AT_HAND, holding: this.holding() });
      this.take(reply);
      if (!this.current) this.next("");
    } catch (e) {
      this.notice(e.message);
      if (e.isPassing) this.retry = setTimeout(() => this.more(), 2000);
    }
  }
  refused(entry, error) {
    const a = this.known.get(entry.id);
    this.notice(`A judgement was not taken: ${error.message}`);
    // the guideline changed meanwhile: the answers are a draft now, and come back with the new version
    if (error.field === "guideline_version") { this.againUnderNewGuideline(entry, error); return; }
    // what the server found wrong can be put right; what it does not want any more cannot
    if (error.status === 422 && entry.body.answers) this.saving.kept.put("draft/" + entry.id, { answers: entry.body.answers, at: Date.now() });
    else this.saving.forget(entry.id);
    if (error.status !== 422 || !a || entry.queue !== this.queue?.queue_id) { if (this.page && !this.current) this.more(); return; }
    a.isSent = false;
    this.done = this.done.filter((id) => id !== entry.id);
    this.line.unshift(a);
    this.show(a, entry.body.answers || {}, "");
  }
  async againUnderNewGuideline(entry, error) {
    this.known.delete(entry.id);
    this.saving.forget(entry.id);
    this.done = this.done.filter((id) => id !== entry.id);
    this.line = this.line.filter((a) => a.assignment_id !== entry.id);
    if (this.page) await this.renewGuideline();
    if (this.page && entry.queue === this.queue?.queue_id) {
      await this.more();
      const again = this.line.find((a) => a.assignment_id === entry.id);
      if (again) { this.line = [again, ...this.line.filter((a) => a !== again)]; this.show(again, entry.body.answers || {}, ""); }
    }
    this.notice(error.message);
  }
  // What the server knows by now, told with every draft: a new guideline, a queue that was closed.
  async drafted(id, reply) {
    if (!this.page || this.current?.assignment_id !== id) return;
    this.queue.status = reply.queue_status || this.queue.status;
    if (this.queue.status === "closed") this.notice("This queue was closed: nothing is taken in any more. What you entered is kept as a draft.");
    if (reply.guideline_version > (this.queue.guideline?.version || 0)) await this.renewGuideline();
    if (!reply.sent_back || this.current?.assignment_id !== id || this.current.guideline_version >= reply.guideline_version) return;
    // what is on screen goes on under the new version: it is shown now
    this.current.guideline_version = reply.guideline_version;
    this.showVersion(this.current);
    this.page.guideline.open = true;
    this.notice(`The guideline has changed to version ${reply.guideline_version}, and judgements under older ones do not count. Your answers are still here: read it, check them and save.`);
  }
  judgedElsewhere(id) {
    this.line = this.line.filter((a) => a.assignment_id !== id);
    const known = this.known.get(id);
    if (known) known.isSent = true;
    if (!this.page || this.past || this.current?.assignment_id !== id) return;
    this.current = null;
    this.next("");
    this.notice("You judged that answer in another tab; this is the next one.");
    if (!this.current) this.more();
  }
  async undo() {
    if (this.undoing || !this.page) return;
    this.undoing = true;
    try { await this.undoOne(); } catch (e) { if (!(e instanceof Refused)) throw e; this.notice(`Undo did not work: ${e.message}`); } finally { this.undoing = false; }
  }
  async undoOne() {
    const unsent = this.past ? null : this.saving.takeBack();
    if (unsent && this.known.get(unsent.id)) {
      this.done.pop();
      this.putBack(this.known.get(unsent.id), unsent.body.answers || {});
      return;
    }
    await this.saving.pump();
    const id = this.past ? this.current?.assignment_id : this.done[this.done.length - 1] || (await this.mine(1)).assignments[0]?.assignment_id;
    if (!id) { this.notice("There is nothing to undo.", 2500); return; }
    const reply = await reviewCall("POST", `assignments/${encodeURIComponent(id)}/reopen`, {});
    const reopened = reply.assignment || reply;
    this.done = this.done.filter((d) => d !== id);
    this.known.set(id, reopened);
    if (reopened.progress) this.progress = reopened.progress;
    this.putBack(reopened, reopened.draft || {});
  }
  putBack(assignment, answers) {
    this.past = null;
    assignment.isSent = false;
    this.line = [assignment, ...this.line.filter((a) => a.assignment_id !== assignment.assignment_id)];
    this.saving.draft(assignment.assignment_id, answers);
    this.show(assignment, answers, "Taken back.");
  }
  // ------------------------------------------------------------------------------------------------- looking back
  mine(limit, cursor) {
    const query = new URLSearchParams({ limit, ...(cursor ? { cursor } : {}) });
    return reviewCall("GET", `queues/${encodeURIComponent(this.queue.queue_id)}/mine?${query}`);
  }
  async back(step) {
    if (this.looking || (!this.past && step < 0)) return;
    this.looking = true;
    try { await this.lookBack(step); } catch (e) { if (!(e instanceof Refused)) throw e; this.notice(e.message); } finally { this.looking = false; }
  }
  async lookBack(step) {
    const past = this.past || { at: -1, list: [], cursor: null, isAll: false };
    const at = past.at + step;
    if (at < 0) { this.leavePast(); return; }
    if (at >= past.list.length && !past.isAll) {
      await this.saving.pump();
      const page = await this.mine(20, past.cursor);
      past.list.push(...page.assignments);
      past.cursor = page.next_cursor;
      past.isAll = !page.next_cursor;
    }
    const found = past.list[at];
    if (!found) { this.notice("There is nothing further back.", 2500); return; }
    past.at = at;
    this.past = past;
    this.show(found, this.saving.kept.get("past/" + found.assignment_id) || found.submitted || found.draft || {}, "Looking back.");
  }
  leavePast() { this.next("Back to work."); }
  async savePast() {
    const a = this.current, answers = this.clean();
    try {
      if (a.state === "skipped") await reviewCall("POST", `assignments/${encodeURIComponent(a.assignment_id)}/reopen`, {});
      const reply = await reviewCall("POST", `assignments/${encodeURIComponent(a.assignment_id)}/submit`, { answers, ...this.shownWith(a), duration_ms: Math.round(this.elapsed()), next: 0, holding: this.holding() });
      this.saving.kept.drop("past/" + a.assignment_id);
      Object.assign(a, { submitted: answers, state: "done", revision: undefined }); // a further change is one of this page
      if (reply.progress) this.progress = reply.progress;
      this.notice("The change is saved.", 2500);
      this.leavePast();
    } catch (e) {
      if (!(e instanceof Refused)) throw e;
      this.notice(`The change is not saved: ${e.message}`);
    }
  }
  // ------------------------------------------------------------------------------------------------- what is shown
  tick() {
    if (!this.clock) return;
    if (document.visibilityState === "visible") this.clock.since ??= performance.now();
    else if (this.clock.since !== null) { this.clock.sum += performance.now() - this.clock.since; this.clock.since = null; }
  }
  elapsed() { return this.clock.sum + (this.clock.since === null ? 0 : performance.now() - this.clock.since); }
  say(text) { if (this.page) this.page.live.textContent = visible(text); }
  notice(text, forMs) {
    if (!this.page) { if (text) (this.unsaid ??= []).push(text); return; }
    clearTimeout(this.noticeTimer);
    this.page.notice.replaceChildren(...(text ? [el("span", "", text)] : []));
    if (text && !forMs) {
      const away = this.page.notice.appendChild(el("button", "rv-away", "\u00d7"));
      away.type = "button"; away.setAttribute("aria-label", "Close");
      away.addEventListener("click", () => this.notice(""));
    }
    if (forMs) this.noticeTimer = setTimeout(() => this.notice(""), forMs);
  }
  showState(word, detail) {
    if (!this.page) return;
    const waiting = this.saving.waiting.length;
    const words = { saving: "Saving\u2026", saved: "Saved", offline: "Not sent yet", "signed-out": "Signed out" };
    this.page.state.textContent = words[word];
    this.page.state.className = "rv-state " + word;
    this.root.dataset.saving = word;
    if (word === "offline" || word === "signed-out") {
      const what = waiting ? `${waiting} judgement${waiting === 1 ? " is" : "s are"}` : "What you entered is";
      const then = word === "offline" ? "sent as soon as it is back; you can go on" : "sent once you have signed in again in another tab";
      this.notice(`${detail} ${what} kept in this browser and ${then}.`);
      this.isTroubled = true;
    } else if (word === "saved" && this.isTroubled) { this.isTroubled = false; this.notice("Everything is sent.", 2500); }
    this.showProgress();
  }
  showProgress() {
    if (!this.page || !this.progress) return;
    const unsent = this.saving.waiting.filter((n) => { const e = this.saving.kept.get(n); return e?.queue === this.queue.queue_id && e.kind === "submit"; }).length;
    const { done, done_today, remaining } = this.progress, all = done + remaining, now = Math.min(all, done + unsent);
    this.page.count.textContent = `${now} of ${all} \u00b7 you have done ${(done_today || 0) + unsent} today`;
    this.page.bar.setAttribute("aria-valuemax", all); this.page.bar.setAttribute("aria-valuenow", now);
    this.page.bar.firstChild.style.width = `${all ? (100 * now) / all : 0}%`;
  }
  // A guideline that has changed since this person last saw one opens by itself.
  showVersion(assignment) {
    const version = assignment.guideline_version, name = `guideline/${this.queue.queue_id}`, seen = this.saving.kept.get(name);
    if (!version || this.past) return;
    if (version > (this.queue.guideline?.version || 0)) { this.renewGuideline(); return; }
    if (seen >= version) return;
    this.saving.kept.put(name, version);
    if (!this.queue.guideline?.text) return;
    if (seen) this.notice(`The guideline has changed: version ${version}.`);
    this.page.guideline.open = true;
  }
  // It was changed while this page was open.
  async renewGuideline() {
    try {
      const found = await reviewCall("GET", `queues/${encodeURIComponent(this.queue.queue_id)}`);
      this.queue.guideline = (found.queue || found).guideline;
    } catch (e) { if (!(e instanceof Refused)) throw e; return; }
    const fresh = drawGuideline(this.queue.guideline);
    this.page.guideline.replaceWith(fresh);
    this.page.guideline = fresh;
    if (this.current && this.queue.guideline?.version >= this.current.guideline_version) this.showVersion(this.current);
  }
  showWaiting() {
    this.page.columns.classList.add("is-waiting");
    this.say("Saved. Waiting for the next answer.");
  }
  showEnd() {
    this.undrawn();
    this.widgets = [];
    this.current = null;
    delete this.root.dataset.assignment;
    this.page.columns.classList.remove("is-waiting", "is-wide");
    this.page.columns.classList.add("is-ended");
    this.page.banner(null);
    const box = el("div", "rv-end");
    const text = this.progress?.is_paused ? "Your work in this queue is paused: ask whoever leads it." : this.queue.status !== "open" ? `This queue is ${this.queue.status}.` : "Nothing is left for you here.";
    box.append(el("h3", "", text), el("p", "muted", `${this.progress?.done || 0} judged by you, ${this.progress?.done_today || 0} of them today. B looks back at them, U takes the last one back.`));
    const row = box.appendChild(el("div", "rv-row-of"));
    row.appendChild(link(el("a", "rv-main", "All queues"), { page: "review" }, this.open));
    for (const [name, does] of [["Look back", () => this.back(1)], ["Undo", () => this.undo()]]) {
      const b = row.appendChild(el("button", "rv-button", name));
      b.type = "button"; b.addEventListener("click", does);
    }
    this.page.left.replaceChildren(box);
    this.say(text);
  }
}
