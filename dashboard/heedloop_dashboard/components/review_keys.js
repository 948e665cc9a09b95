// The keyboard: one table of keys, which the help overlay shows too. Nothing fires while someone types into a field, but for
// Ctrl+Enter and Escape.
const KEYS = [
  ["1 \u2026 9", "choose an option of the current question"],
  ["\u2191 \u2193", "question before, question after"],
  ["\u2190 \u2192", "option before, option after"],
  ["Ctrl + Enter", "save and go on"],
  ["S", "skip, with a reason"],
  ["U", "undo: take the last one back"],
  ["B", "look back at what you did; N comes forward again"],
  ["E", "edit the better answer"],
  ["M", "mark words: arrows choose, Shift extends, Alt adjusts by a character, a number marks, Delete takes away, Esc ends"],
  ["+ \u2212", "ranking: best, worst"],
  ["D", "two answers: what differs, scrolled together"],
  ["R", "the answer as Markdown next to it"],
  ["V", "question next to the answer, or above it"],
  ["L", "a note to the queue's lead"],
  ["W", "what the model saw"],
  ["G", "guideline"],
  ["?", "this help"],
];
const isTyping = (node) => Boolean(node && (node.matches?.("input, textarea, select") || node.isContentEditable));

class Keyboard {
  constructor(app) {
    this.app = app;
    this.listen = (event) => this.on(event);
    // before Streamlit's own shortcuts, which know nothing of ours
    addEventListener("keydown", this.listen, true);
  }
  stop() { removeEventListener("keydown", this.listen, true); }
  on(event) {
    const app = this.app, target = event.target;
    if (!app.isWorking || event.defaultPrevented || event.isComposing) return;
    if (app.dialog?.open) { if (app.dialog.key?.(event)) this.take(event); else event.stopPropagation(); return; }
    if (target !== document.body && !app.root.contains(target)) return;
    const done = this.typed(event) || (isTyping(target) ? this.inField(event) : this.command(event));
    if (done) this.take(event);
    else if (!isTyping(target) && event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  }
  take(event) { event.preventDefault(); event.stopImmediatePropagation(); }
  typed(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return false;
    if (!event.repeat) this.app.save();
    return true;
  }
  inField(event) {
    event.stopPropagation();
    if (event.key !== "Escape") return false;
    this.app.toQuestion(document.activeElement);
    return true;
  }
  command(event) {
    const app = this.app, text = app.texts.find((t) => t.box === document.activeElement);
    if (event.ctrlKey || event.metaKey) return false;
    if (text && text.question && text.key(event)) return true;
    app.texts.forEach((t) => t.offerNow());
    const offering = app.texts.find((t) => t.isOffering);
    if (offering && /^[1-9]$/.test(event.key)) { offering.mark(Number(event.key) - 1); return true; }
    if (offering && event.key === "Escape") { offering.close(); getSelection().removeAllRanges(); return true; }
    if (event.altKey) return false;
    return this.inQuestion(event) || this.letter(event);
  }
  inQuestion(event) {
    const widget = this.app.active();
    if (widget?.key?.(event)) return true;
    if (/^[0-9]$/.test(event.key)) return Boolean(widget?.digit(event.key));
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (steps[event.key]) { this.app.moveQuestion(steps[event.key]); return true; }
    const sideways = { ArrowRight: 1, ArrowLeft: -1 };
    if (!sideways[event.key] || event.shiftKey) return false;
    const at = widget ? widget.options.indexOf(document.activeElement) : -1;
    if (at < 0) { if (event.key === "ArrowLeft") { this.app.back(1); return true; } return false; }
    const next = widget.options[at + sideways[event.key]];
    if (next) next.focus();
    return true;
  }
  letter(event) {
    const app = this.app;
    const commands = { s: () => app.askWhySkip(), u: () => app.undo(), b: () => app.back(1), n: () => app.back(-1), e: () => app.edit(),
      m: () => app.mark(), d: () => app.compareTexts(), r: () => app.toggleMarkdown(), v: () => app.toggleBeside(), l: () => app.note(), w: () => app.toggle(".rv-context"), g: () => app.toggle(".rv-guideline"), "?": () => app.help() };
    const command = commands[event.key.toLowerCase()];
    if (event.key === "Escape" && app.past) { app.leavePast(); return true; }
    if (!command) return false;
    if (!event.repeat) command();
    return true;
  }
}

// --- dialogs ---------------------------------------------------------------------------------------------------------
function openDialog(app, title, fill, { key, onClose } = {}) {
  const dialog = el("dialog", "rv-dialog");
  const before = document.activeElement;
  const heading = dialog.appendChild(el("h3", "", title));
  heading.id = "rv-dialog-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.key = key;
  fill(dialog);
  dialog.addEventListener("click", (e) => { if (e.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    dialog.remove();
    app.dialog = null;
    if (before?.isConnected) before.focus({ preventScroll: true });
    if (onClose) onClose();
  });
  app.dialog = app.root.appendChild(dialog);
  dialog.showModal();
  return dialog;
}
function closeButton(dialog, text) {
  const button = dialog.appendChild(el("button", "rv-main", text));
  button.type = "button";
  button.addEventListener("click", () => dialog.close());
  return button;
}
function helpDialog(app) {
  openDialog(app, "The keyboard", (dialog) => {
    const list = dialog.appendChild(el("dl", "rv-keys"));
    for (const [key, does] of KEYS) { list.appendChild(el("dt")).appendChild(el("kbd", "", key)); list.appendChild(el("dd", "", does)); }
    closeButton(dialog, "Close").autofocus = true;
  });
}
function noteDialog(app, send) {
  openDialog(app, "A note to the queue's lead", (dialog) => {
    const field = dialog.appendChild(el("textarea", "rv-input"));
    field.rows = 4; field.maxLength = 10_000; field.autofocus = true;
    field.setAttribute("aria-label", "Note");
    closeButton(dialog, "Send").addEventListener("click", () => { if (field.value.trim()) send(field.value.trim()); });
  });
}
const SKIP_REASONS = ["Not my subject", "Not enough to judge by", "Empty or broken", "I know the person", "Other"];
function skipDialog(app) {
  let field;
  const skip = (reason) => { app.dialog.close(); app.skip(reason); };
  const choose = (i) => (i === SKIP_REASONS.length - 1 ? field.focus() : skip(SKIP_REASONS[i]));
  openDialog(app, "Why skip this one?", (dialog) => {
    const list = dialog.appendChild(el("div", "rv-column"));
    SKIP_REASONS.forEach((reason, i) => {
      const button = list.appendChild(el("button", "rv-option", ""));
      button.type = "button";
      button.append(el("span", "", reason), el("kbd", "", i + 1));
      button.addEventListener("click", () => choose(i));
    });
    field = dialog.appendChild(el("input", "rv-input"));
    field.placeholder = "In your own words, then Enter";
    field.setAttribute("aria-label", "Reason in your own words");
    field.maxLength = 500;
  }, { key: (event) => {
    if (event.key === "Enter" && event.target === field) { if (field.value.trim()) skip(field.value.trim()); return true; }
    if (!isTyping(event.target) && event.key.length === 1 && /\p{L}/u.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) { field.focus(); return false; }
    if (isTyping(event.target) || !/^[1-9]$/.test(event.key) || Number(event.key) > SKIP_REASONS.length) return false;
    choose(Number(event.key) - 1);
    return true;
  } });
}
// What was expected of a training answer, over the page: nothing under it moves.
function trainingDialog(app, judged, training) {
  openDialog(app, "Training: what was expected", (dialog) => {
    dialog.appendChild(el("p", "rv-quote", clip(judged.answers.map((a) => a.text).join("\n\n"), 600)));
    const list = dialog.appendChild(el("ul", "rv-trained"));
    for (const [name, right] of Object.entries(training.correct || {})) {
      const question = app.queue.questions.find((q) => q.name === name) || { name, kind: "" };
      const line = list.appendChild(el("li", right ? "right" : "wrong"));
      line.appendChild(el("b", "", `${right ? "\u2713" : "\u2717"} ${question.title || name}: `));
      const expected = training.expected?.[name];
      line.appendChild(el("span", "", right ? "as expected" : `expected ${expected === undefined ? "something else" : inWords(question, expected)}`));
    }
    if (training.why) dialog.appendChild(el("p", "", training.why));
    closeButton(dialog, "Go on").autofocus = true;
  });
}
