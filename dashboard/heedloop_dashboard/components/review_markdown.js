// Markdown as nodes: headings, lists, quotes, code, tables, and emphasis. Every word is a text node; a link shows its address as
// text, and an image its description, so that nothing is ever loaded or followed.
const BLOCK = /^\s*(#{1,6}\s|```|~~~|>|[-*+]\s|\d+[.)]\s|\|)/;
function drawMarkdown(box, text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  for (let i = 0; i < lines.length; ) {
    const line = lines[i], fence = /^\s*(```|~~~)/.exec(line), heading = /^\s*#{1,6}\s+(.*)/.exec(line);
    if (!line.trim()) { i++; continue; }
    if (fence) {
      const end = lines.findIndex((l, j) => j > i && l.trim().startsWith(fence[1]));
      box.appendChild(el("pre", "rv-code", lines.slice(i + 1, end < 0 ? lines.length : end).join("\n")));
      i = end < 0 ? lines.length : end + 1;
    } else if (heading) { inline(box.appendChild(el("h4")), heading[1]); i++; }
    else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) { box.appendChild(el("hr")); i++; }
    else if (/^\s*>/.test(line)) i = drawBlock(lines, i, /^\s*>/, (run) => drawMarkdown(box.appendChild(el("blockquote")), run.map((l) => l.replace(/^\s*> ?/, "")).join("\n")));
    else if (line.includes("|") && /^\s*\|?\s*:?-+/.test(lines[i + 1] || "")) i = drawBlock(lines, i, /\|/, (run) => drawTable(box, run));
    else if (/^\s*([-*+]|\d+[.)])\s/.test(line)) i = drawList(box, lines, i);
    else i = drawParagraph(box, lines, i);
  }
}
// The lines from `i` on that fit a pattern go to `draw`; returns the first that does not.
function drawBlock(lines, i, pattern, draw) {
  let end = i;
  while (end < lines.length && pattern.test(lines[end])) end++;
  draw(lines.slice(i, end));
  return end;
}
function drawParagraph(box, lines, i) {
  let end = i + 1;
  while (end < lines.length && lines[end].trim() && !BLOCK.test(lines[end])) end++;
  inline(box.appendChild(el("p")), lines.slice(i, end).join("\n"));
  return end;
}
// Items with everything that is indented under them.
function drawList(box, lines, i) {
  const point = /^(\s*)([-*+]|\d+[.)])\s+(.*)/, depth = point.exec(lines[i])[1].length;
  const list = box.appendChild(el(/\d/.test(lines[i].trim()[0]) ? "ol" : "ul"));
  while (i < lines.length) {
    const found = point.exec(lines[i]);
    if (!found || found[1].length !== depth) break;
    const inner = [];
    for (i++; i < lines.length && (/^\s/.test(lines[i]) || !lines[i].trim()) && (!point.test(lines[i]) || point.exec(lines[i])[1].length > depth); i++) inner.push(lines[i].slice(depth + 2));
    const item = list.appendChild(el("li"));
    inline(item, found[3]);
    if (inner.some((l) => l.trim())) drawMarkdown(item, inner.join("\n"));
  }
  return i;
}
function drawTable(box, rows) {
  const table = box.appendChild(el("div", "rv-scroll")).appendChild(el("table"));
  rows.forEach((row, r) => {
    if (r === 1) return;
    const tr = table.appendChild(el("tr"));
    for (const cell of row.trim().replace(/^\||\|$/g, "").split("|")) inline(tr.appendChild(el(r ? "td" : "th")), cell.trim());
  });
}
const INLINE = /(`+)(.+?)\1|(\*\*|__)(?=\S)(.+?)\3|~~(.+?)~~|(?<!\w)([*_])(?=\S)(.+?)\6(?!\w)|(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)/su;
function inline(node, text) {
  for (let rest = text; rest; ) {
    const m = INLINE.exec(rest);
    if (!m) { node.append(visible(rest)); return; }
    if (m.index) node.append(visible(rest.slice(0, m.index)));
    if (m[1]) node.appendChild(el("code", "", m[2]));
    else if (m[3]) inline(node.appendChild(el("b")), m[4]);
    else if (m[5]) inline(node.appendChild(el("s")), m[5]);
    else if (m[6]) inline(node.appendChild(el("em")), m[7]);
    else node.appendChild(el("span", "rv-url", `${m[8] ? "image: " : ""}${m[9]} (${m[10]})`));
    rest = rest.slice(m.index + m[0].length);
  }
}
