// Lines for a terminal of 80 columns.

import { styleText } from "node:util";

/** Columns of a line. */
export const WIDTH = 80;

type Style = "bold" | "dim" | "green" | "red" | "yellow";

/** Prints lines on standard output. */
export function print(...lines: string[]): void {
  for (const line of lines) console.log(line);
}

/** Returns text with a color, if the stream is a terminal and NO_COLOR is not set. */
export function paint(style: Style, text: string, stream: { isTTY?: boolean } = process.stdout): string {
  return stream.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text;
}

/** Returns text in lines of at most 80 columns. Words that are longer stay whole. */
export function wrap(text: string, indent: number, hang = indent + 2): string[] {
  const lines: string[] = [];
  let line = " ".repeat(indent);
  for (const word of text.split(" ")) {
    if (line.trim() && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = " ".repeat(hang);
    }
    line += line.trim() ? ` ${word}` : word;
  }
  return [...lines, line];
}
