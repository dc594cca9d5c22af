// Lines for a terminal.

import { styleText } from "node:util";

/** Returns the columns of a line: those of the terminal, but at least 80 and at most 120. */
export function width(): number {
  return Math.min(120, Math.max(80, process.stdout.columns ?? 80));
}

export type Style = "bold" | "dim" | "green" | "red" | "yellow";

/** Returns text with a color, if the stream is a terminal that has colors and NO_COLOR is not set. */
export function paint(style: Style, text: string, stream: { isTTY?: boolean } = process.stdout): string {
  if (!stream.isTTY || process.env.NO_COLOR || process.env.TERM === "dumb") return text;
  // Otherwise, Node.js asks standard output whether it is a terminal, whichever stream this is.
  return styleText(style, text, { validateStream: false });
}

/**
 * Returns text in which every character is visible: those that a terminal obeys (control characters), that reorder a line
 * (bidirectional formatting), or that show nothing or look like a space are written as `\u{HEX}`.
 */
export function visible(text: string): string {
  return text.replace(/(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}

/** Returns a number with its noun, such as `2 findings`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** Returns text in lines that fit into the terminal. Words that are longer stay whole. Every character is visible. */
export function wrap(text: string, indent: number, hang = indent + 2): string[] {
  const lines: string[] = [];
  let line = " ".repeat(indent);
  for (const word of visible(text).split(" ")) {
    if (line.trim() && line.length + 1 + word.length > width()) {
      lines.push(line);
      line = " ".repeat(hang);
    }
    line += line.trim() ? ` ${word}` : word;
  }
  return [...lines, line];
}

/** In front of every cell of a table. */
const GAP = "  ";

/**
 * Returns a row of a table as lines. A cell that is wider than its column has the rest of the line for itself.
 *
 * @param widths of the columns.
 */
export function tableRow(cells: string[], widths: number[]): string[] {
  const lines: string[] = [];
  let line = GAP;
  let column = GAP.length;
  for (const [index, cell] of cells.entries()) {
    const cellWidth = widths[index] ?? 0;
    line += visible(cell);
    column += cellWidth + GAP.length;
    if (visible(cell).length > cellWidth) {
      lines.push(line);
      line = " ".repeat(column);
    } else {
      line = line.padEnd(column);
    }
  }
  return [...lines, line].map((it) => it.trimEnd()).filter(Boolean);
}

/** Returns a row of a table whose last cell is text, in as many lines as it has. */
export function textRow(cells: string[], widths: number[], text: string): string[] {
  const column = widths.reduce((sum, cellWidth) => sum + cellWidth + GAP.length, GAP.length);
  const [first = "", ...others] = wrap(text, column);
  return [...tableRow([...cells, first.trimStart()], widths), ...others];
}
