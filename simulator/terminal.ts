// Lines for a terminal.

import { styleText } from "node:util";
import { visible } from "../settings/problems";

/** Returns the columns of a line: those of the terminal, but at least 80 and at most 120. */
export function width(): number {
  return Math.min(120, Math.max(80, process.stdout.columns ?? 80));
}

export type Style = "bold" | "green" | "red";

/** Returns text with a color, if the stream is a terminal that has colors and NO_COLOR is not set. */
export function paint(style: Style, text: string, stream: { isTTY?: boolean } = process.stdout): string {
  if (!stream.isTTY || process.env.NO_COLOR || process.env.TERM === "dumb") return text;
  // Otherwise, Node.js asks standard output whether it is a terminal, whichever stream this is.
  return styleText(style, text, { validateStream: false });
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
 * Returns a row of a table as lines: cells, and text that can be longer than its column. A cell that is wider than its column has the
 * rest of a line for itself.
 *
 * @param cells each with the columns that it may have.
 */
export function tableRow(cells: [cell: string, columns: number][], text: string): string[] {
  const lines: string[] = [];
  let line = GAP;
  let column = GAP.length;
  for (const [cell, columns] of cells) {
    line += visible(cell);
    column += columns + GAP.length;
    if (line.length > column - GAP.length) {
      lines.push(line);
      line = "";
    }
    line = line.padEnd(column);
  }
  const [first = "", ...others] = wrap(text, column, column);
  return [...lines, line + first.trimStart(), ...others].map((it) => it.trimEnd());
}
