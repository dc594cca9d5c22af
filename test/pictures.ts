// Writes the picture of a terminal in docs/: `npm run docs`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { ended } from "./support/programs";
import { ROOT } from "./support/project";

/** A module with which a program prints for a terminal. */
const TERMINAL = "data:text/javascript,Object.assign(process.stdout,{isTTY:true,columns:80})";

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

test("docs/npm-start.svg shows what `npm start` prints", async () => {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", "--import", TERMINAL, "simulator/commandLine.ts"],
    {
      cwd: ROOT,
      // What the runner of the tests sets would change what it does.
      env: { PATH: process.env.PATH, TMPDIR: tmpdir(), TERM: "xterm" },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const { exitCode, stdout, stderr } = await ended(child);
  assert.deepEqual([exitCode, stderr], [0, ""]);

  const screen = ["$ npm start --silent", ...stdout.trimEnd().split("\n")];
  writeFileSync(join(ROOT, "docs", "npm-start.svg"), pictureOf(screen));
});

/**
 * Returns an SVG of what a terminal shows.
 *
 * @param lines with the escape sequences above.
 * @throws AssertionError for any other sequence.
 */
function pictureOf(lines: string[]): string {
  const columns = Math.max(...lines.map((line) => stripVTControlCharacters(line).length));
  const width = Math.ceil(columns * CHARACTER_WIDTH) + 2 * PADDING;
  const height = lines.length * LINE_HEIGHT + 2 * PADDING;
  const texts = lines.map((line, index) => {
    const y = PADDING + index * LINE_HEIGHT + FONT_SIZE;
    return `<text x="${PADDING}" y="${y}">${spansOf(line)}</text>`;
  });

  // Viewers other than browsers need `xml:space`: they would collapse the spaces between columns.
  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" xml:space="preserve">
<title>The output of npm start</title>
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
