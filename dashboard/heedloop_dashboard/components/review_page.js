// What stands on the page: list of queues, one answer with its conversation, questions, guideline. Nodes only, no decisions.
function drawQueues(root, queues, open) {
  root.appendChild(el("h2", "rv-title", "Review"));
  if (!queues.length) { root.appendChild(el("p", "rv-empty", "There is no queue for you yet. A project admin can create one and add you.")); return; }
  const list = root.appendChild(el("ul", "rv-queues"));
  for (const queue of queues) list.appendChild(queueCard(queue, open));
  list.querySelector("a")?.focus({ preventScroll: true });
}
function queueCard(queue, open) {
  const card = el("li", "rv-card rv-queue");
  card.dataset.queue = queue.queue_id;
  const mine = queue.mine || {}, left = mine.remaining || 0, all = (mine.done || 0) + left;
  const head = card.appendChild(el("div", "rv-queue-head"));
  const words = head.appendChild(el("div"));
  words.appendChild(el("h3", "", queue.name));
  if (queue.description) words.appendChild(el("p", "muted", queue.description));
  const isOpen = queue.status === "open";
  const start = link(el("a", isOpen && left ? "rv-main" : "rv-button", !isOpen ? `${queue.status}` : mine.done && left ? "Go on" : left ? "Start" : "Look back"),
    { page: "review", params: { queue: queue.queue_id } }, open);
  start.setAttribute("aria-label", `${start.textContent}: ${queue.name}`);
  head.appendChild(start);
  card.appendChild(progressBar(mine.done || 0, all, `Your part of ${queue.name}`));
  const facts = [all ? `${mine.done || 0} of ${all} judged by you` : "nothing for you now", left ? `${left} left` : "", mine.done_today ? `${mine.done_today} today` : "",
    queue.counts ? `${queue.counts.done} of ${queue.counts.items} answers finished by all` : "", dueWords(queue.due_at)];
  card.appendChild(el("p", "muted rv-facts", facts.filter(Boolean).join(" \u00b7 ")));
  if (mine.is_paused) card.appendChild(el("p", "rv-banner", "Your work in this queue is paused: ask whoever leads it."));
  if (mine.done || mine.skipped) card.appendChild(drawRecord(queue));
  return card;
}
// The own record, asked for when it is opened.
function drawRecord(queue) {
  const box = el("details", "rv-record");
  box.appendChild(el("summary", "muted", "Your record"));
  box.addEventListener("toggle", async () => {
    if (!box.open || box.children.length > 1) return;
    const text = box.appendChild(el("p", "", "\u2026"));
    try {
      const r = await reviewCall("GET", `queues/${encodeURIComponent(queue.queue_id)}/record`);
      const trained = r.training ? `${r.training_right} of ${r.training} training answers right` : "";
      text.textContent = [`${r.done} judged`, `${r.skipped} skipped`, `${r.hours.toFixed(1)} hours`, trained, r.sent_back ? `${r.sent_back} sent back to you` : ""].filter(Boolean).join(" \u00b7 ");
    } catch (e) { if (!(e instanceof Refused)) throw e; text.textContent = e.message; }
  });
  return box;
}
function dueWords(due) {
  if (!due) return "";
  const days = Math.ceil((new Date(due) - Date.now()) / 86_400_000), date = new Date(due).toLocaleDateString(undefined, { day: "numeric", month: "short" });
  if (days > 60) return `due ${date} ${new Date(due).getFullYear()}`;
  return days < 0 ? `was due ${date}` : days === 0 ? "due today" : `due ${date}, in ${days} day${days === 1 ? "" : "s"}`;
}
function progressBar(done, all, label) {
  const bar = el("div", "rv-progress");
  bar.setAttribute("role", "progressbar"); bar.setAttribute("aria-label", label);
  bar.setAttribute("aria-valuemin", 0); bar.setAttribute("aria-valuemax", all); bar.setAttribute("aria-valuenow", done);
  bar.appendChild(el("i")).style.width = `${all ? (100 * done) / all : 0}%`;
  return bar;
}

// The frame that stays while answers come and go.
function drawFrame(app) {
  const { root, queue } = app, page = {};
  const head = root.appendChild(el("div", "rv-head"));
  page.title = head.appendChild(el("h2", "rv-title", `Review: ${queue.name}`));
  const right = head.appendChild(el("div", "rv-head-right"));
  page.count = right.appendChild(el("span", "rv-count muted"));
  page.state = right.appendChild(el("span", "rv-state"));
  page.bar = root.appendChild(progressBar(0, 0, "Your progress"));
  page.notice = root.appendChild(el("div", "rv-notice"));
  page.notice.setAttribute("role", "alert");
  page.live = root.appendChild(el("div", "sr"));
  page.live.setAttribute("role", "status"); page.live.setAttribute("aria-live", "polite");
  root.appendChild(el("div", "sr", "Arrow keys select words, Shift extends, number keys mark with a label, Delete removes a mark, Escape ends.")).id = "rv-mark-help";
  const banner = root.appendChild(el("div", "rv-banner"));
  page.banner = (past) => drawBanner(banner, app, past);
  page.columns = root.appendChild(el("div", "rv-columns"));
  const main = page.columns.appendChild(el("div", "rv-main-column"));
  page.left = main.appendChild(el("section", "rv-card rv-left"));
  page.left.setAttribute("aria-label", "The answer");
  page.guideline = main.appendChild(drawGuideline(queue.guideline));
  page.right = page.columns.appendChild(el("section", "rv-card rv-right"));
  page.right.setAttribute("aria-label", "Your judgement");
  page.right.appendChild(el("h3", "", "Your judgement"));
  page.questions = page.right.appendChild(el("div", "rv-questions"));
  const actions = page.right.appendChild(el("div", "rv-actions"));
  page.small = actions.appendChild(el("div", "rv-small"));
  const button = (parent, cls, text, key, does) => {
    const b = parent.appendChild(el("button", cls));
    b.type = "button";
    b.append(el("span", "", text), el("kbd", "", key));
    b.addEventListener("click", does);
    return b;
  };
  button(page.small, "rv-button", "Skip", "S", () => app.askWhySkip());
  button(page.small, "rv-button", "Undo", "U", () => app.undo());
  button(page.small, "rv-button", "Back", "B", () => app.back(1));
  button(page.small, "rv-button slim", "", "?", () => app.help()).setAttribute("aria-label", "Help: the keyboard");
  page.save = button(actions, "rv-main", "Save and next", "Ctrl + Enter", () => app.save());
  const last = actions.appendChild(el("div", "rv-small"));
  const rules = button(last, "rv-button rv-rules", "Guideline", "G", () => app.toggle(".rv-guideline"));
  rules.prepend(iconOf("book"));
  page.note = button(last, "rv-button", "Note", "L", () => app.note());
  return page;
}
function drawBanner(box, app, past) {
  box.replaceChildren();
  if (!past) return;
  const a = app.current, what = a.state === "skipped" ? `You skipped this${a.reason ? ": " + a.reason : ""}.` : "You judged this.";
  box.appendChild(el("span", "", `${what} Change it and save, or go on.`));
  for (const [text, key, does] of [["Older", "B", () => app.back(1)], ["Newer", "N", () => app.back(-1)], ["Back to work", "Esc", () => app.leavePast()]]) {
    const b = box.appendChild(el("button", "rv-button"));
    b.type = "button";
    b.append(el("span", "", text), el("kbd", "", key));
    b.addEventListener("click", does);
  }
}
function drawGuideline(guideline) {
  const box = el("details", "rv-guideline rv-card");
  const summary = box.appendChild(el("summary"));
  summary.append(el("h3", "", "Guideline"), el("small", "muted", guideline?.version ? `version ${guideline.version}` : ""));
  const body = box.appendChild(el("div", "rv-fold-body"));
  if (!guideline || !guideline.text) { body.appendChild(el("p", "muted", "This queue has no guideline.")); return box; }
  drawMarkdown(body, guideline.text);
  (guideline.examples || []).forEach((example, i) => {
    const card = body.appendChild(el("div", "rv-example"));
    card.appendChild(el("b", "", `Example ${i + 1}: ${typeof example.verdict === "string" ? example.verdict : JSON.stringify(example.verdict ?? "")}`));
    for (const [name, text] of [["Asked", example.input], ["Answered", example.output], ["Why", example.why]])
      if (text) { const p = card.appendChild(el("p")); p.append(el("small", "muted", name), el("span", "", text)); }
  });
  return box;
}
// --- one answer ------------------------------------------------------------------------------------------------------
const PEOPLE = { user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM4 20c0-4 4-6 8-6s8 2 8 6Z", assistant: "M12 3v3M5 8h14v10H5zM9 12v2M15 12v2M2 12v3M22 12v3" };
function bubble(role, name) {
  const box = el("div", "rv-message " + role);
  const who = box.appendChild(el("div", "rv-who"));
  const face = svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  face.appendChild(svg("path", { d: PEOPLE[role] || PEOPLE.assistant, fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linejoin": "round" }));
  who.appendChild(face);
  const body = box.appendChild(el("div", "rv-bubble"));
  body.appendChild(el("span", "sr", name));
  return { box, body };
}
// Fills the left column; returns the parts that the questions need: one MarkedText and one slot per answer.
const SHOWN_TURNS = 4, LONG_QUESTION = 1200, LONG_ANSWER = 1200;
function drawAnswers(app, assignment, ranges) {
  const left = app.page.left, messages = assignment.messages || [], several = assignment.answers.length > 1 && !assignment.is_session;
  left.replaceChildren();
  left.appendChild(drawViews(app, assignment, several));
  const source = left.appendChild(el("div", "rv-source"));
  if (!assignment.is_session) drawConversation(source, messages, assignment.images || []);
  const grid = left.appendChild(el("div", several ? "rv-side-by-side" : "rv-one"));
  const parts = assignment.answers.map((answer, i) => {
    if (assignment.is_session) drawMessage(grid, { role: "user", text: answer.asked }, `Turn ${i + 1}`);
    return drawOne(app, grid, answer, i, several, assignment, ranges);
  });
  if (messages.length) left.appendChild(drawContext(messages));
  return parts;
}
// What the person can choose of how it is shown; each has its key.
function drawViews(app, assignment, several) {
  const row = el("div", "rv-views");
  const add = (text, key, does) => {
    const b = row.appendChild(el("button", "rv-button"));
    b.type = "button"; b.dataset.key = key;
    b.append(el("span", "", text), el("kbd", "", key));
    b.setAttribute("aria-pressed", "false");
    b.addEventListener("click", does);
  };
  if (several && assignment.answers.length === 2) add("Differences", "D", () => app.compareTexts());
  if (!several && !assignment.is_session && (assignment.messages || []).length) add("Side by side", "V", () => app.toggleBeside());
  if (assignment.answers.some((a) => /[#*_`|>]|^\s*[-+]\s/m.test(a.text || ""))) add("Markdown", "R", () => app.toggleMarkdown());
  return row;
}
// Every turn that people and the model had, the last ones in view; what else the model saw is in the fold below.
function drawConversation(source, messages, images) {
  const turns = messages.filter((m) => ["user", "assistant"].includes(m.role) && (m.text || m.media?.length || m.tool_calls?.length));
  const shown = turns.length ? turns : messages.slice(-1), earlier = shown.slice(0, -SHOWN_TURNS);
  if (earlier.length) {
    const more = source.appendChild(el("button", "rv-button", `Show ${earlier.length} earlier message${earlier.length === 1 ? "" : "s"}`));
    more.type = "button";
    more.addEventListener("click", () => { const box = el("div", "rv-earlier"); earlier.forEach((m) => drawMessage(box, m)); more.replaceWith(box); });
  }
  shown.slice(-SHOWN_TURNS).forEach((m) => drawMessage(source, m));
  images.filter((i) => /^data:image\/(png|jpeg|gif|webp);base64,/.test(i)).forEach((src, i) => {
    const image = source.appendChild(el("img", "rv-image"));
    image.src = src; image.alt = `Image ${i + 1}`;
  });
}
function drawMessage(parent, message, title) {
  const { box, body } = bubble(message.role === "user" ? "user" : "assistant", title || (message.role === "user" ? "The question" : "An earlier answer"));
  if (title) body.appendChild(el("small", "muted", title));
  const text = body.appendChild(el("div", "rv-text", message.text || ""));
  text.dir = "auto";
  for (const call of message.tool_calls || []) body.appendChild(el("div", "rv-tool mono", `${call.name || "tool"}(${call.arguments ?? ""})`));
  for (const part of message.media || []) body.appendChild(el("div", "rv-facts muted", part));
  parent.appendChild(box);
}
function drawOne(app, grid, answer, i, several, assignment, ranges) {
  const holder = several ? grid.appendChild(el("article", "rv-answer")) : grid;
  const name = several ? `Answer ${letter(i)}` : assignment.is_session ? `Answer of turn ${i + 1}` : "The answer";
  if (several) holder.appendChild(el("h4", "", name));
  const { box, body } = several ? { box: el("div"), body: el("div", "rv-bubble") } : bubble("assistant", name);
  if (several) box.appendChild(body);
  const marked = new MarkedText({ text: answer.text || "", label: name, ...(ranges ? ranges(i) : { question: null, get: () => [], set() {} }), say: (t) => app.say(t), left: () => app.afterMarking() });
  body.appendChild(marked.node);
  if (!answer.text) marked.box.appendChild(el("span", "muted", "(no text)"));
  if (assignment.answers.length > 2 && (answer.text || "").length > LONG_ANSWER) {
    marked.node.classList.add("rv-clipped");
    const all = marked.node.appendChild(el("button", "rv-button rv-all", `Show all of ${name}`));
    all.type = "button";
    all.addEventListener("click", () => marked.node.classList.remove("rv-clipped"));
  }
  for (const call of answer.tool_calls || []) body.appendChild(el("div", "rv-tool mono", `${call.name || "tool"}(${call.arguments ?? ""})`));
  const facts = Object.entries(answer.facts || {}).filter(([, v]) => v !== null && v !== "" && v !== undefined).map(factWords);
  if (facts.length) body.appendChild(el("div", "rv-facts muted", facts.join(" \u00b7 ")));
  holder.appendChild(box);
  const slot = holder.appendChild(el("div", "rv-slot"));
  return { marked, slot };
}
function factWords([name, value]) {
  if (name === "duration_ms") return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
  if (name === "input_tokens" || name === "output_tokens") return `${value} tokens ${name === "input_tokens" ? "in" : "out"}`;
  if (name === "cost") return `$${Number(value).toFixed(4)}`;
  if (name === "start_time") return new Date(value).toLocaleString();
  return Array.isArray(value) ? value.join(", ") : typeof value === "object" ? JSON.stringify(value) : String(value);
}
function drawContext(messages) {
  const box = el("details", "rv-context rv-fold");
  const summary = box.appendChild(el("summary"));
  summary.append(iconOf("page"), el("span", "", "What the model saw"), el("small", "muted", `${messages.length} message${messages.length === 1 ? "" : "s"}`));
  // drawn when it is opened: a prompt can be long, and most are never looked at
  box.addEventListener("toggle", () => {
    if (!box.open || box.querySelector(".rv-fold-body")) return;
    const body = box.appendChild(el("div", "rv-fold-body"));
    for (const m of messages) {
      const message = body.appendChild(el("div", "rv-seen"));
      message.appendChild(el("small", "muted", m.role || "message"));
      message.appendChild(el("div", "rv-text", m.text || "")).dir = "auto";
      for (const call of m.tool_calls || []) message.appendChild(el("div", "rv-tool mono", `${call.name || "tool"}(${call.arguments ?? ""})`));
    }
  });
  return box;
}
