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
