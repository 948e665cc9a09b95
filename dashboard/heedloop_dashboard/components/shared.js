// Every text that comes from outside goes through el(..., text), which sets textContent: it can never become markup.
function el(tag, cls, text) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  if (text !== undefined && text !== null) node.textContent = visible(String(text));
  return node;
}
function svg(tag, attrs) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attrs)) node.setAttribute(k, v);
  return node;
}
// Bidirectional overrides and control characters could make a text read as something it is not: show them as marks.
function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (c) => (c < "\u0020" ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : "\u27e8U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u27e9"));
}
// A link inside the dashboard: a plain click is answered without loading the page again, any other click by the browser.
function link(node, open, trigger) {
  if (!open) return node;
  const pairs = Object.entries(open.params || {}).flatMap(([k, v]) => (Array.isArray(v) ? v.map((one) => [k, one]) : [[k, v]]));
  const query = new URLSearchParams(pairs).toString();
  node.setAttribute("href", "./" + open.page + (query ? "?" + query : ""));
  node.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    trigger("open", open);
  });
  return node;
}
function mount(parent) {
  let root = parent.querySelector(".hl");
  if (!root) { root = el("div", "hl"); parent.appendChild(root); }
  root.replaceChildren();
  return root;
}
// A long text is cut until its reader asks for all of it; an endless word gets places to break at, because a browser's
// time to lay one out grows with the square of its length.
const CUT = 6000, SHOWN = 4000, ENDLESS = 600, STEP = 120;
function breakable(node, text) {
  const endless = new RegExp("[^\\s\\u0e00-\\uffff]{" + ENDLESS + ",}", "gu");
  let at = 0;
  for (const run of text.matchAll(endless)) {
    node.append(text.slice(at, run.index));
    const chars = Array.from(run[0]);
    for (let i = 0; i < chars.length; ) {
      let end = Math.min(i + STEP, chars.length);
      while (end < chars.length && /[\p{M}\u200d]/u.test(chars[end])) end += 1;
      node.append(chars.slice(i, end).join(""), document.createElement("wbr"));
      i = end;
    }
    at = run.index + run[0].length;
  }
  node.append(text.slice(at));
  return node;
}
function longText(node, text) {
  const shown = visible(String(text));
  if (shown.length <= CUT) return breakable(node, shown);
  let end = SHOWN;
  if (/[\udc00-\udfff]/.test(shown[end])) end += 1;
  breakable(node, shown.slice(0, end) + "\u2026");
  const more = el("button", "more", "Show all " + shown.length.toLocaleString("en") + " characters");
  more.type = "button";
  more.addEventListener("click", () => { node.replaceChildren(); breakable(node, shown); });
  node.append(more);
  return node;
}
