/* <heedloop-feedback token="hlt1.…" server="https://…"> lets a person judge one answer: thumbs, reasons, a comment, what it should have said.
 *
 * Attributes: token (from heedloop.feedback_token(), required), server (default: where this script came from),
 * value (1 or 0: the person's earlier thumb, where the page knows it; this browser's own memory comes first),
 * reasons ("inaccurate,incomplete"; empty for none). Texts: any of the keys of WORDS as data-…, such as data-up="Gefällt mir".
 * Style: --heedloop-accent, --heedloop-text, --heedloop-border, --heedloop-surface, --heedloop-error; ::part(button|panel|send|status).
 * Events: "heedloop-feedback" with detail {kind, value} after the server has taken it, "heedloop-error" with detail {message}.
 * A token is good for one post; each post reserves the next one by the hash of a secret that stays in this browser (docs/api.md).
 */
const WORDS = {
  group: "Rate this answer", up: "Good answer", down: "Bad answer", why: "What was wrong?", comment: "Comment",
  correction: "What should it have said?", send: "Send", close: "Close", thanks: "Thank you.", taken: "Taken back.",
  waits: "You are offline. This is sent when the network is back.",
  failed: "That could not be sent. Please try again.", expired: "This answer can no longer be rated here.",
};
const REASONS = "inaccurate,incomplete,misleading,unhelpful,unsafe";
const HOME = new URL(import.meta.url).origin;
const THUMB = "M7 22H4a2 2 0 0 1-2-2v-7a2 2 0 0 1 2-2h3m0 11V11m0 11h9.3a3 3 0 0 0 3-2.6l1-6a3 3 0 0 0-3-3.4H14V6a3 3 0 0 0-3-3l-4 8";
const STYLE = `
:host{display:inline-block;font:inherit;color:var(--heedloop-text,currentColor)}
button,textarea{font:inherit;color:inherit}
button{cursor:pointer;background:none;border:1px solid transparent;border-radius:6px;padding:4px 6px;line-height:0;min-width:32px;min-height:32px}
button:hover{border-color:var(--heedloop-border,#8888)}
button[aria-pressed=true]{color:var(--heedloop-accent,#2563eb)}
button[aria-pressed=true] path{fill:currentColor;fill-opacity:.25}
:focus-visible{outline:2px solid var(--heedloop-accent,#2563eb);outline-offset:1px}
.down svg{transform:translateY(1px)}
form{margin-top:6px;padding:10px;border:1px solid var(--heedloop-border,#8888);border-radius:8px;background:var(--heedloop-surface,transparent);max-width:26rem}
form[hidden]{display:none}
fieldset{border:0;margin:0 0 6px;padding:0}
legend,label{display:block;font-size:.9em}
.reason{display:inline-block;margin:2px 10px 2px 0}
textarea{box-sizing:border-box;width:100%;min-height:3.2em;margin:2px 0 6px;background:transparent;border:1px solid var(--heedloop-border,#8888);border-radius:6px;padding:4px}
form button{line-height:1.3;padding:4px 12px;border-color:var(--heedloop-border,#8888)}
[role=status]{font-size:.9em;min-height:1.2em}
[role=status].error{color:var(--heedloop-error,#b91c1c)}`;

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(STYLE);

const text = (tag, props, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
const newId = () => hex(crypto.getRandomValues(new Uint8Array(16)));
/* A page without TLS has no crypto.subtle; nothing on it is secret on its way in any case. */
const hashed = async (secret) => {
  if (!crypto.subtle) return `plain.${secret}`;
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(secret))));
};
const readToken = (token) => {
  const body = (token || "").split(".")[1] || "";
  const bytes = Uint8Array.from(atob(body.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
};

/* What this browser keeps: until the token expires where there is storage, else until the page goes. */
const memory = new Map();
const recall = (place) => {
  try { return JSON.parse(localStorage.getItem(place)) ?? memory.get(place); } catch { return memory.get(place); }
};
const keep = (place, value) => {
  memory.set(place, value);
  try { localStorage.setItem(place, JSON.stringify(value)); } catch { /* a frame without storage, or a full one */ }
};
const forgetExpired = () => {
  try {
    for (const place of Object.keys(localStorage).filter((k) => k.startsWith("heedloop:")))
      if (!(recall(place)?.until > Date.now() / 1000)) localStorage.removeItem(place);
  } catch { /* as above */ }
};
/* One tab at a time: the tabs of a page share the token, and so the chain of secrets. */
const alone = (name, work) => (navigator.locks ? navigator.locks.request(name, work) : work());

/* One person's posts with one token, in order. The first of `waiting` is sent as `pending`, whose answer is not known, also over a
 * reload: it is sent again, as it was, before anything else, so that it counts once and the chain of secrets stays whole. */
class Line {
  static of(token) {
    if (!Line.known.has(token)) Line.known.set(token, new Line(token));
    return Line.known.get(token);
  }
  static known = new Map();

  constructor(token) {
    this.token = token;
    this.place = `heedloop:${token.slice(-43)}`;
    this.last = Promise.resolve();
  }

  /* The status of the answer; 0 where none came, and the post waits for the network. */
  post(url, feedback) { return this.turn((state) => state.waiting.push({ url, feedback })); }

  /* Send what waits; the last status, or null where nothing did. */
  resume() { return this.turn(() => {}); }

  turn(change) {
    const turn = this.last.then(() => alone(this.place, async () => {
      this.state = { secret: "", pending: null, waiting: [], until: readToken(this.token).e, ...recall(this.place) };
      change(this.state);
      let status = null;
      while (this.state.waiting.length) {
        this.state.pending ??= await this.request(this.state.waiting[0]);
        keep(this.place, this.state);
        status = await this.send(this.state.pending);
        if (!status) break;
        keep(this.place, this.state);
      }
      return status;
    }));
    this.last = turn.catch(() => {});
    return turn;
  }

  async request({ url, feedback }) {
    const next = newId();
    const headers = { "content-type": "application/json", "x-heedloop-token": this.token, "x-heedloop-next": await hashed(next) };
    if (this.state.secret) headers["x-heedloop-proof"] = this.state.secret;
    return { url, next, init: { method: "POST", credentials: "omit", body: JSON.stringify({ feedback }), headers } };
  }

  async send(request) {
    for (const wait_ms of [0, 300, 1200]) {
      if (navigator.onLine === false) return 0;
      await new Promise((done) => setTimeout(done, wait_ms));
      try {
        const { ok, status } = await fetch(request.url, request.init);
        if (!ok && (status >= 500 || status === 429)) continue;
        if (ok) this.state.secret = request.next;
        this.state.pending = null;
        this.state.waiting.shift();
        return status;
      } catch { /* the network; try again */ }
    }
    return 0;
  }
}

class HeedloopFeedback extends HTMLElement {
  static observedAttributes = ["token"];

  connectedCallback() {
    this.draw();
    this.leaving = new AbortController();
    addEventListener("online", () => this.resume(), { signal: this.leaving.signal });
    addEventListener("storage", (event) => { if (event.key === this.vote) this.mark(recall(this.vote)?.value); }, { signal: this.leaving.signal });
  }
  disconnectedCallback() { this.leaving?.abort(); }
  attributeChangedCallback() { if (this.isConnected) this.draw(); }

  word(key) { return this.dataset[key] ?? WORDS[key]; }

  draw() {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    root.replaceChildren();
    this.thumb = null;
    try { this.grant = readToken(this.getAttribute("token")); } catch { this.grant = null; }
    if (!this.grant?.t) return;
    root.adoptedStyleSheets = [SHEET]; // a page may forbid inline styles (style-src 'self')
    const group = text("div", { role: "group", ariaLabel: this.word("group") });
    if (this.may("rating")) group.append(this.button("up", 1), this.button("down", 0));
    this.panel = this.form();
    this.status = text("div", { role: "status" });
    this.status.part = "status";
    root.append(group, this.panel, this.status);
    if (!this.may("rating")) this.panel.hidden = false;
    /* the same person's earlier word on the same answer, by whatever token */
    this.vote = `heedloop:vote:${this.grant.t}:${this.grant.j}`;
    forgetExpired();
    const kept = recall(this.vote);
    this.mark(kept ? kept.value : this.hasAttribute("value") ? Number(this.getAttribute("value")) : null);
    this.resume();
  }

  async resume() {
    const status = await Line.of(this.getAttribute("token")).resume().catch(() => null);
    if (status >= 200 && status < 300) this.say("thanks");
    else if (status) this.fail(status === 401 || status === 403 ? "expired" : "failed");
  }

  mark(value) {
    this.thumb = value ?? null;
    for (const b of this.shadowRoot.querySelectorAll("[data-value]")) b.ariaPressed = String(Number(b.dataset.value) === this.thumb);
  }

  may(kind) { return this.grant.k.includes(kind); }

  button(name, value) {
    const icon = `<svg width="18" height="18" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round" aria-hidden="true"><path d="${THUMB}"${value ? "" : ' transform="rotate(180 12 12)"'}/></svg>`;
    const button = text("button", { type: "button", className: name, ariaLabel: this.word(name), ariaPressed: "false", innerHTML: icon });
    button.title = this.word(name);
    button.part = "button";
    button.dataset.value = value;
    button.addEventListener("click", () => this.press(value));
    return button;
  }

  form() {
    const form = text("form", { hidden: true });
    form.part = "panel";
    const reasons = (this.getAttribute("reasons") ?? REASONS).split(",").map((r) => r.trim()).filter(Boolean);
    if (this.may("flag") && reasons.length) {
      const boxes = reasons.map((r) => text("label", { className: "reason" }, text("input", { type: "checkbox", name: "reason", value: r }), ` ${r}`));
      form.append(text("fieldset", {}, text("legend", { textContent: this.word("why") }), ...boxes));
    }
    for (const name of ["comment", "correction"].filter((n) => this.may(n)))
      form.append(text("label", {}, this.word(name), text("textarea", { name, maxLength: 20000 })));
    const close = text("button", { type: "button", textContent: this.word("close") });
    close.addEventListener("click", () => { form.hidden = true; });
    const send = text("button", { type: "submit", textContent: this.word("send") });
    send.part = "send";
    form.append(send, " ", close);
    form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(form); });
    form.addEventListener("keydown", (event) => { if (event.key === "Escape") form.hidden = true; });
    return form;
  }

  async press(value) {
    const back = this.thumb === value;
    const said = back ? { retracted: true } : { value };
    if (!(await this.post([{ kind: "rating", name: "thumb", scale: { min: 0, max: 1 }, ...said }]))) return;
    this.mark(back ? null : value);
    keep(this.vote, { value: this.thumb, until: this.grant.e });
    this.panel.hidden = this.thumb !== 0;
    if (!this.waits) this.say(back ? "taken" : "thanks");
  }

  async submit(form) {
    const values = new FormData(form);
    const entries = values.getAll("reason").map((category) => ({ kind: "flag", category }));
    const comment = (values.get("comment") ?? "").trim();
    const correction = (values.get("correction") ?? "").trim();
    if (comment) entries.push({ kind: "comment", comment });
    if (correction) entries.push({ kind: "correction", correction });
    if (!entries.length || !(await this.post(entries))) return;
    form.reset();
    form.hidden = true;
    if (!this.waits) this.say("thanks");
  }

  async post(entries) {
    const [, trace_id, span_id] = this.grant.t.split("-");
    const feedback = entries.map((e) => ({ id: newId(), target: { trace_id, span_id }, created_at: new Date().toISOString(), ...e }));
    const line = Line.of(this.getAttribute("token"));
    const status = await line.post(`${this.getAttribute("server") ?? HOME}/v1/feedback`, feedback);
    this.waits = !status && navigator.onLine === false; // with a network, a server that fails is told of at once; it is tried again
    if (this.waits) this.say("waits");
    else if (status < 200 || status >= 300) return this.fail(status === 401 || status === 403 ? "expired" : "failed");
    for (const { kind, value } of this.waits ? [] : entries) this.tell("heedloop-feedback", { kind, value });
    return true;
  }

  fail(key) {
    this.say(key, true);
    this.tell("heedloop-error", { message: this.word(key) });
    return false;
  }

  say(key, isError = false) {
    this.status.className = isError ? "error" : "";
    this.status.textContent = this.word(key);
  }

  tell(name, detail) { this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true })); }
}

customElements.get("heedloop-feedback") ?? customElements.define("heedloop-feedback", HeedloopFeedback);
