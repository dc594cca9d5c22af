// Pictures of a terminal, for the pages.

import assert from "node:assert/strict";

const FONT_SIZE = 13;
const LINE_HEIGHT = 19;
const PADDING = 16;
/** That of the widest common font, so that no line is cut off. */
const CHARACTER_WIDTH = FONT_SIZE * 0.61;
/** Longer lines continue on the next line, as in a terminal. */
const COLUMNS = 100;

const FONT = `ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
const BACKGROUND = "#151b23";
const TEXT = "#f0f6fc";

/** What each escape sequence that starts a style adds to the text. */
const STYLES: Record<string, string> = {
  "\u001b[1m": ' font-weight="bold"',
  "\u001b[38;5;1m": ' fill="#f85149"',
  "\u001b[32m": ' fill="#3fb950"',
  "\u001b[38;5;12m": ' fill="#4493f8"',
  "\u001b[38;5;13m": ' fill="#ab7df8"',
};

interface Character {
  text: string;
  style: string;
}

/**
 * Returns an SVG of what a terminal shows.
 *
 * @param title for readers who can't see the picture.
 * @param lines with the escape sequences above.
 * @throws AssertionError for any other sequence.
 */
export async function pictureOf(title: string, lines: string[]): Promise<string> {
  // It has no CommonJS version.
  const { styledCharsFromTokens, tokenize } = await import("@alcalzone/ansi-tokenize");
  const rows = lines.flatMap((line) => {
    const characters = styledCharsFromTokens(tokenize(line)).map(({ value, styles }) => ({
      text: escaped(value),
      style: styles.map(({ code }) => styleOf(code)).join(""),
    }));
    return inRows(characters);
  });
  const columns = Math.max(...rows.map((row) => row.length));
  const width = Math.ceil(columns * CHARACTER_WIDTH) + 2 * PADDING;
  const height = rows.length * LINE_HEIGHT + 2 * PADDING;
  const texts = rows.map((row, index) => {
    const y = PADDING + index * LINE_HEIGHT + FONT_SIZE;
    return `<text x="${PADDING}" y="${y}">${spansOf(row)}</text>`;
  });

  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<title>${escaped(title)}</title>
<style>text { font: ${FONT_SIZE}px ${FONT}; white-space: pre; fill: ${TEXT}; }</style>
<rect width="${width}" height="${height}" rx="6" fill="${BACKGROUND}"/>
${texts.join("\n")}
</svg>
`;
}

function styleOf(sequence: string): string {
  return STYLES[sequence] ?? assert.fail(`the picture has no style for ${JSON.stringify(sequence)}`);
}

function inRows(characters: Character[]): Character[][] {
  const count = Math.max(1, Math.ceil(characters.length / COLUMNS));
  return Array.from({ length: count }, (_, row) => characters.slice(row * COLUMNS, (row + 1) * COLUMNS));
}

/** Joins neighbors of the same style. */
function spansOf(row: Character[]): string {
  const spans = row.map(({ text, style }, index) => {
    const start = style === row[index - 1]?.style ? "" : `<tspan${style}>`;
    const end = style === row[index + 1]?.style ? "" : "</tspan>";
    return `${start}${text}${end}`;
  });
  return spans.join("");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
