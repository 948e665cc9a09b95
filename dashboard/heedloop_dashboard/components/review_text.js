// Texts in code points, as the server counts them; JavaScript's own strings count UTF-16 units.
// Characters that could make a text read as another are drawn as signs (`visible`), so one character may take many places:
// every drawn run knows the code point it starts at, and a sign counts as the one character that it stands for.
const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const wordsOf = new Intl.Segmenter(undefined, { granularity: "word" });

// `differs`: ranges that the other answer does not have.
function drawText(box, chars, marks, differs = []) {
  const cuts = new Set([0, chars.length]);
  for (const m of marks) { cuts.add(Math.min(m.start, chars.length)); cuts.add(Math.min(m.end, chars.length)); }
  for (const d of differs) { cuts.add(d.start); cuts.add(d.end); }
  chars.forEach((c, i) => { if (visible(c) !== c) { cuts.add(i); cuts.add(i + 1); } });
  const at = [...cuts].sort((a, b) => a - b);
  const nodes = at.slice(0, -1).map((start, i) => drawRun(chars, start, at[i + 1], marks, differs));
  box.replaceChildren(...nodes);
}
function drawRun(chars, start, end, marks, differs) {
  const raw = chars.slice(start, end).join("");
  const inside = marks.filter((m) => m.start <= start && m.end >= end);
  const run = el(inside.length ? "mark" : "span", "", raw);
  run.dataset.start = start;
  if (differs.some((d) => d.start <= start && d.end >= end)) run.classList.add("rv-differs");
  if (end === start + 1 && visible(raw) !== raw) { run.dataset.sign = "1"; run.classList.add("sign"); }
  if (!inside.length) return run;
  run.classList.add("hue" + inside[inside.length - 1].hue);
  if (inside.length > 1) run.classList.add("deep");
  run.title = visible(inside.map((m) => m.label).join(", "));
  const ending = inside.filter((m) => m.end === end).map((m) => m.number);
  if (ending.length) run.dataset.ends = ending.join(" ");
  run.dataset.ranges = inside.map((m) => m.id).join(" ");
  return run;
}
// The code point at a place in the drawn text; places before it count as its start, places behind it as its end.
function indexAt(box, node, offset, length) {
  if (!box.contains(node)) return box.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING ? 0 : length;
  if (node === box) return box.children[offset] ? Number(box.children[offset].dataset.start) : length;
  const run = (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).closest("[data-start]");
  const start = Number(run.dataset.start), text = run.textContent;
  const before = node.nodeType === Node.TEXT_NODE ? node.data.slice(0, offset) : offset ? text : "";
  if (run.dataset.sign) return start + (2 * before.length >= text.length ? 1 : 0);
  return start + Array.from(before).length;
}
function placeOf(box, chars, index) {
  const all = [...box.children];
  let run = all[0];
  for (const r of all) { if (Number(r.dataset.start) <= index) run = r; else break; }
  if (!run || !run.firstChild) return { node: box, offset: 0 };
  const start = Number(run.dataset.start);
  if (run.dataset.sign) return { node: run.firstChild, offset: index > start ? run.firstChild.length : 0 };
  return { node: run.firstChild, offset: Math.min(chars.slice(start, index).join("").length, run.firstChild.length) };
}
function selectRange(box, chars, from, to) {
  const a = placeOf(box, chars, from), b = placeOf(box, chars, to);
  getSelection().setBaseAndExtent(a.node, a.offset, b.node, b.offset);
}
// What is selected inside the text, widened to whole characters as a reader sees them, without blanks at its ends.
function selectedRange(box, chars) {
  const chosen = getSelection();
  if (!chosen.rangeCount || chosen.isCollapsed || !chosen.getRangeAt(0).intersectsNode(box)) return null;
  const r = chosen.getRangeAt(0);
  let start = indexAt(box, r.startContainer, r.startOffset, chars.length);
  let end = indexAt(box, r.endContainer, r.endOffset, chars.length);
  while (start < end && !chars[start].trim()) start++;
  while (end > start && !chars[end - 1].trim()) end--;
  return start < end ? wholeCharacters(chars, start, end) : null;
}
function wholeCharacters(chars, start, end) {
  const text = chars.join(""), segments = graphemes.segment(text);
  const utf16 = (i) => chars.slice(0, i).join("").length;
  const first = segments.containing(utf16(start)), last = segments.containing(utf16(end) - 1);
  return { start: start - Array.from(text.slice(first.index, utf16(start))).length,
    end: end + Array.from(text.slice(utf16(end), last.index + last.segment.length)).length };
}
// Words as ranges of code points; where a text has none (only signs), its other visible pieces.
function wordRanges(text) {
  let at = 0;
  const all = [...wordsOf.segment(text)].map((s) => {
    const start = at;
    at += Array.from(s.segment).length;
    return { start, end: at, word: s.isWordLike, blank: !s.segment.trim() };
  });
  const found = all.filter((w) => w.word);
  return found.length ? found : all.filter((w) => !w.blank);
}

// --- what a correction changed, word by word -------------------------------------------------------------------------
// The ranges (code points) of both texts that the other one does not have.
function differences(before, after) {
  const found = { gone: [], new: [] }, at = { gone: 0, new: 0 };
  for (const { op, text } of wordDiff(before, after)) {
    const n = Array.from(text).length;
    for (const side of op === "same" ? ["gone", "new"] : [op]) {
      if (op !== "same" && text.trim()) found[side].push({ start: at[side], end: at[side] + n });
      at[side] += n;
    }
  }
  return [found.gone, found.new];
}
const MAX_CELLS = 4_000_000;
function wordDiff(before, after) {
  const pattern = /[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu;
  const pieces = diffTokens(before.match(pattern) || [], after.match(pattern) || []);
  return pieces || diffTokens(before.match(/[^\n]*\n|[^\n]+/g) || [], after.match(/[^\n]*\n|[^\n]+/g) || [])
    || [{ op: "gone", text: before }, { op: "new", text: after }];
}
// The longest common subsequence between the common beginning and end; null where that would take too long.
function diffTokens(a, b) {
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const left = a.slice(head, a.length - tail), right = b.slice(head, b.length - tail);
  const n = left.length, m = right.length;
  if ((n + 1) * (m + 1) > MAX_CELLS) return null;
  const best = new Uint16Array((n + 1) * (m + 1));
  for (let i = n - 1; i >= 0; i--) for (let j = m - 1; j >= 0; j--)
    best[i * (m + 1) + j] = left[i] === right[j] ? best[(i + 1) * (m + 1) + j + 1] + 1
      : Math.max(best[(i + 1) * (m + 1) + j], best[i * (m + 1) + j + 1]);
  const pieces = [];
  const add = (op, text) => {
    const last = pieces[pieces.length - 1];
    if (last && last.op === op) last.text += text; else if (text) pieces.push({ op, text });
  };
  add("same", a.slice(0, head).join(""));
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && left[i] === right[j]) { add("same", left[i]); i++; j++; }
    else if (i < n && (j === m || best[(i + 1) * (m + 1) + j] >= best[i * (m + 1) + j + 1])) add("gone", left[i++]);
    else add("new", right[j++]);
  }
  add("same", a.slice(a.length - tail).join(""));
  return pieces;
}
