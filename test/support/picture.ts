// Pictures of a terminal, for the pages.

import assert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";

const FONT_SIZE = 13;
const LINE_HEIGHT = 19;
const PADDING = 16;
/** That of the widest common font, so that no line is cut off. */
const CHARACTER_WIDTH = FONT_SIZE * 0.61;
const FONT = `ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
const BACKGROUND = "#151b23";
const TEXT = "#f0f6fc";

const ESCAPE = "\u001b[";

/** What replaces each escape sequence. */
const TAGS: Record<string, string> = {
  "1m": '<tspan font-weight="bold">',
  "22m": "</tspan>",
  "32m": '<tspan fill="#3fb950">',
  "39m": "</tspan>",
};

/**
 * Returns an SVG of what a terminal shows.
 *
 * @param title for readers who can't see the picture.
 * @param lines with the escape sequences above.
 * @throws AssertionError for any other sequence.
 */
export function pictureOf(title: string, lines: string[]): string {
  const columns = Math.max(...lines.map((line) => stripVTControlCharacters(line).length));
  const width = Math.ceil(columns * CHARACTER_WIDTH) + 2 * PADDING;
  const height = lines.length * LINE_HEIGHT + 2 * PADDING;
  const texts = lines.map((line, index) => {
    const y = PADDING + index * LINE_HEIGHT + FONT_SIZE;
    return `<text x="${PADDING}" y="${y}">${spansOf(line)}</text>`;
  });

  // Viewers other than browsers need `xml:space`: they would collapse the spaces between columns.
  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" xml:space="preserve">
<title>${escaped(title)}</title>
<style>text { font: ${FONT_SIZE}px ${FONT}; white-space: pre; fill: ${TEXT}; }</style>
<rect width="${width}" height="${height}" rx="6" fill="${BACKGROUND}"/>
${texts.join("\n")}
</svg>
`;
}

function spansOf(line: string): string {
  const [start = "", ...styled] = escaped(line).split(ESCAPE);
  const spans = styled.map((text) => {
    const [sequence = ""] = /^[^a-z]*./.exec(text) ?? [];
    const tag = TAGS[sequence] ?? assert.fail(`the picture has no style for ${JSON.stringify(sequence)}`);
    return tag + text.slice(sequence.length);
  });
  return start + spans.join("");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
