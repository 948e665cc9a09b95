// What the person did goes to the server at once; until it is there it stands in this browser, per person and assignment.
class Refused extends Error {
  constructor(status, message, field) { super(message); this.status = status; this.field = field; }
  get isPassing() { return this.status === 0 || this.status === 429 || this.status === 401 || this.status >= 500; }
}

async function reviewCall(method, path, body, more) {
  let answer;
  try {
    answer = await fetch("./review-api/" + path, {
      method, credentials: "same-origin", cache: "no-store", ...more,
      headers: { "x-heedloop-review": "1", ...(body === undefined ? {} : { "content-type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (e) {
    throw new Refused(0, "The dashboard does not answer.");
  }
  let said = {};
  try { said = await answer.json(); } catch (e) { /* no JSON: the status says enough */ }
  if (!answer.ok) throw new Refused(answer.status, said.error?.message || `HTTP ${answer.status}`, said.error?.field);
  return said;
}

// localStorage, one entry per assignment, so that two tabs never write over each other's; memory where it is full or shut.
class Kept {
  constructor(who) { this.prefix = `heedloop-review/${who}/`; this.memory = new Map(); }
  put(name, value) {
    this.memory.set(name, value);
    try { localStorage.setItem(this.prefix + name, JSON.stringify(value)); } catch (e) { /* memory has it */ }
  }
  get(name) {
    if (this.memory.has(name)) return this.memory.get(name);
    try { return JSON.parse(localStorage.getItem(this.prefix + name)); } catch (e) { return null; }
  }
  drop(name) {
    this.memory.delete(name);
    try { localStorage.removeItem(this.prefix + name); } catch (e) { /* memory is all there is */ }
  }
  // Other tabs of this browser hear of it; nothing stays.
  tell(name) {
    try { localStorage.setItem(this.prefix + name, String(Date.now())); localStorage.removeItem(this.prefix + name); } catch (e) { /* they hear it from the server */ }
  }
  names(kind) {
    const found = new Set([...this.memory.keys()]);
    try { for (let i = 0; i < localStorage.length; i++) { const k = localStorage.key(i); if (k.startsWith(this.prefix)) found.add(k.slice(this.prefix.length)); } } catch (e) { /* memory */ }
    return [...found].filter((n) => n.startsWith(kind + "/")).sort();
  }
}

const DRAFT_MS = 300;
const FORGOTTEN_MS = 60 * 86_400_000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 15000];

class Saving {
  // `on`: `state(word, detail)`, `stored(entry, reply)`, `refused(entry, error)`; `wants()`: what the next request asks for.
  constructor(who, on) {
    this.kept = new Kept(who);
    // drafts of answers that somebody else finished long ago
    for (const name of this.kept.names("draft")) if (!(Date.now() - this.kept.get(name)?.at < FORGOTTEN_MS)) this.kept.drop(name);
    this.on = on;
    this.tries = 0;
    this.drafting = new Map();
    this.inFlight = null;
    this.wake = () => { clearTimeout(this.timer); this.tries = 0; this.pump(); this.sendDrafts(); };
    this.hide = () => { if (document.visibilityState === "hidden") this.leave(); };
    this.leave = () => this.sendDrafts({ keepalive: true });
    const judged = this.kept.prefix + "judged/";
    this.heard = (e) => { if (e.newValue && e.key?.startsWith(judged)) this.on.judgedElsewhere(e.key.slice(judged.length)); };
    addEventListener("storage", this.heard);
    addEventListener("online", this.wake);
    addEventListener("pagehide", this.leave);
    document.addEventListener("visibilitychange", this.hide);
  }
  stop() {
    this.leave();
    clearTimeout(this.timer); clearTimeout(this.draftTimer);
    removeEventListener("storage", this.heard);
    removeEventListener("online", this.wake);
    removeEventListener("pagehide", this.leave);
    document.removeEventListener("visibilitychange", this.hide);
    this.stopped = true;
  }
  // ------------------------------------------------------------------------------------------- drafts
  draft(id, answers) {
    this.kept.put("draft/" + id, { answers, at: Date.now() });
    this.drafting.set(id, answers);
    this.on.state("saving");
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.sendDrafts(), DRAFT_MS);
  }
  draftOf(id) { return this.kept.get("draft/" + id)?.answers; }
  async sendDrafts(more) {
    clearTimeout(this.draftTimer);
    for (const [id, answers] of [...this.drafting]) {
      if (this.inFlight === id) continue;
      let isThere = true;
      try {
        this.on.drafted(id, await reviewCall("PUT", `assignments/${encodeURIComponent(id)}/draft`, { answers }, more));
      } catch (e) {
        if (e.isPassing) { this.trouble(e); return; }
        this.on.draftRefused(id, e);
        isThere = false; // a lease that has ended keeps no draft: the browser's copy stays until the answer itself is sent
      }
      if (this.drafting.get(id) !== answers) continue;
      this.drafting.delete(id);
      if (isThere) this.kept.drop("draft/" + id);
    }
    if (!this.drafting.size) this.calm();
  }
  forget(id) { this.drafting.delete(id); this.kept.drop("draft/" + id); }
  // ------------------------------------------------------------------------------- answers on their way
  get waiting() { return this.kept.names("out"); }
  isWaiting(id) { return this.waiting.some((n) => this.kept.get(n)?.id === id); }
  send(entry) {
    const name = `out/${String(Date.now()).padStart(15, "0")}-${entry.id}`;
    this.kept.put(name, { ...entry, name });
    this.drafting.delete(entry.id);
    return this.pump();
  }
  // Takes back what has not gone out yet; null where it is on its way or there.
  takeBack() {
    const name = this.waiting.pop();
    const entry = name && this.kept.get(name);
    if (!entry || this.inFlight === entry.id) return null;
    this.kept.drop(name);
    return entry;
  }
  // One at a time and in order: each reply brings what comes next.
  async pump() {
    if (this.busy || this.stopped) return this.busy;
    this.busy = this.drain();
    try { await this.busy; } finally { this.busy = null; }
  }
  async drain() {
    let name;
    while ((name = this.waiting[0]) && !this.stopped) {
      const entry = this.kept.get(name);
      if (!entry) { this.kept.drop(name); continue; }
      this.inFlight = entry.id;
      this.on.state("saving");
      try {
        const body = { ...entry.body, ...this.on.wants(entry) };
        const reply = await reviewCall("POST", `assignments/${encodeURIComponent(entry.id)}/${entry.kind}`, body, { keepalive: JSON.stringify(body).length < 60_000 });
        this.kept.drop(name); this.forget(entry.id);
        this.kept.tell("judged/" + entry.id);
        this.tries = 0;
        this.on.stored(entry, reply);
      } catch (e) {
        if (!(e instanceof Refused)) throw e;
        if (e.isPassing) { this.inFlight = null; this.trouble(e); return; }
        this.kept.drop(name);
        this.on.refused(entry, e);
      }
      this.inFlight = null;
    }
    this.calm();
  }
  trouble(e) {
    this.on.state(e.status === 401 ? "signed-out" : "offline", e.message);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.pump(); this.sendDrafts(); }, RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
  }
  calm() { if (!this.waiting.length && !this.drafting.size) { this.tries = 0; this.on.state("saved"); } }
}
