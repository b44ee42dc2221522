// Looks at the open page as a picky reader, and returns what is wrong with its layout, in words.
const wrong = [];
const root = document.documentElement;
const named = (one) => {
  const id = one.closest("[id]")?.id ?? "";
  const text = one.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
  return `${one.tagName.toLowerCase()}.${one.className?.baseVal ?? one.className} in #${id} "${text}"`;
};
// Texts for screen readers only are cut out of the page, and the way past the navigation waits above it.
const isSeen = (one) => {
  if (!one.checkVisibility({ visibilityProperty: true })) return false;
  for (let at = one; at; at = at.parentElement) {
    if (getComputedStyle(at).clipPath !== "none" || at.matches(".skip")) return false;
  }
  return true;
};
if (root.scrollWidth > window.innerWidth) wrong.push(`the page is ${root.scrollWidth} px wide, its window ${window.innerWidth} px`);

const BOXES = ".panel, .node, .machine, .badge, .judged li, td, th, dd, dt, button, label, header, footer, main, h1, h2, h3, h4, figure";
const scrolls = (one) => ["auto", "scroll"].includes(getComputedStyle(one).overflowX);
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = walker.nextNode(); text; text = walker.nextNode()) {
  const parent = text.parentElement;
  if (!text.data.trim() || parent.closest("svg, script, style, option") || !isSeen(parent)) continue;
  const range = document.createRange();
  range.selectNodeContents(text);
  const lines = [...range.getClientRects()].filter((line) => line.width > 0);
  for (let box = parent; box && box !== document.body; box = box.parentElement) {
    // What is wider than a box that scrolls can be reached.
    if (scrolls(box)) break;
    if (!box.matches(BOXES)) continue;
    const edge = box.getBoundingClientRect();
    const out = lines.find((line) => line.right > edge.right + 1 || line.left < edge.left - 1 || line.bottom > edge.bottom + 4);
    if (out) {
      wrong.push(`a text leaves its box: ${named(box)}`);
      break;
    }
  }
  const size = parseFloat(getComputedStyle(parent).fontSize);
  if (size < 12) wrong.push(`a text of ${size} px is hard to read: ${named(parent)}`);
}

for (const panel of document.querySelectorAll("section.panel")) {
  const rest = panel.cloneNode(true);
  rest.querySelector("h2")?.remove();
  rest.querySelectorAll("caption, thead, title").forEach((one) => one.remove());
  if (!rest.textContent.trim()) wrong.push(`an empty panel: ${named(panel)}`);
}
for (const fact of document.querySelectorAll("dd")) {
  if (!fact.textContent.trim()) wrong.push(`a fact without a value: ${named(fact.parentElement)}`);
}
// Two things of one row do not lie on each other.
for (const row of document.querySelectorAll(".top, .languages, .filter, .pages")) {
  const parts = [...row.children].filter(isSeen).map((one) => [one, one.getBoundingClientRect()]).filter(([, at]) => at.width > 0);
  for (const [at, [one, a]] of parts.entries()) {
    for (const [other, b] of parts.slice(at + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 1) wrong.push(`two parts lie on each other: ${named(one)} and ${named(other)}`);
    }
  }
}
return [...new Set(wrong)];
