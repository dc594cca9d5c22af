// Pictures of a terminal, for the pages.

const FONT_SIZE = 13;
const LINE_HEIGHT = 19;
const PADDING = 16;
/** That of the widest common font, so that no line is cut off. */
const CHARACTER_WIDTH = FONT_SIZE * 0.61;
/** Longer lines continue on the next line, as in a terminal. */
const COLUMNS = 100;

/** GitHub's colors, on a light and on a dark background. */
const COLORS = {
  light: {
    background: "#f6f8fa",
    text: "#1f2328",
    dim: "#59636e",
    red: "#d1242f",
    green: "#1a7f37",
    yellow: "#9a6700",
    blue: "#0969da",
    magenta: "#8250df",
    cyan: "#1b7c83",
  },
  dark: {
    background: "#151b23",
    text: "#f0f6fc",
    dim: "#9198a1",
    red: "#f85149",
    green: "#3fb950",
    yellow: "#d29922",
    blue: "#4493f8",
    magenta: "#ab7df8",
    cyan: "#39c5cf",
  },
};

/** In the order of ANSI, in which they begin with 1; with 9 in the bright half of the palette. */
const ANSI_COLORS = ["red", "green", "yellow", "blue", "magenta", "cyan"];

/**
 * Returns an SVG of what a terminal shows, in light or dark colors, as the reader's system prefers.
 *
 * @param title for readers who can't see the picture.
 * @param lines with ANSI escape sequences for bold, dim, and the colors above.
 * @throws Error for any other sequence.
 */
export async function pictureOf(title: string, lines: string[]): Promise<string> {
  // It has no CommonJS version.
  const { styledCharsFromTokens, tokenize } = await import("@alcalzone/ansi-tokenize");
  const rows = lines.flatMap((line) => {
    const characters = styledCharsFromTokens(tokenize(line)).map(({ value, styles }) => ({
      text: escaped(value),
      style: styles.map(({ code }) => styleOf(code)).join(" "),
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
<style>
text { font: ${FONT_SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }
.bold { font-weight: bold; }
${rulesOf(COLORS.light)}
@media (prefers-color-scheme: dark) {
${rulesOf(COLORS.dark)}
}
</style>
<rect width="${width}" height="${height}" rx="6"/>
${texts.join("\n")}
</svg>
`;
}

/** Returns the name of a style: `bold`, or one of the colors. */
function styleOf(code: string): string {
  // Between the escape character with `[`, and `m`.
  const parameters = code.slice(2, -1);
  if (parameters === "1") return "bold";
  if (parameters === "2") return "dim";

  const [, number = ""] = /^(?:38;5;|3)(\d+)$/.exec(parameters) ?? [];
  // The bright colors follow the others.
  const color = number === "8" ? "dim" : ANSI_COLORS[(Number(number) % 8) - 1];
  if (color) return color;
  throw new Error(`The picture has no color for ${JSON.stringify(code)}`);
}

interface Character {
  text: string;
  style: string;
}

function inRows(characters: Character[]): Character[][] {
  const count = Math.max(1, Math.ceil(characters.length / COLUMNS));
  return Array.from({ length: count }, (_, row) => characters.slice(row * COLUMNS, (row + 1) * COLUMNS));
}

/** Joins neighbors of the same style. */
function spansOf(row: Character[]): string {
  return row
    .map(({ text, style }, index) => {
      const isFirst = row[index - 1]?.style !== style;
      const isLast = row[index + 1]?.style !== style;
      if (!style) return text;
      return `${isFirst ? `<tspan class="${style}">` : ""}${text}${isLast ? "</tspan>" : ""}`;
    })
    .join("");
}

function rulesOf({ background, text, ...colors }: Record<string, string>): string {
  const rules = Object.entries(colors).map(([name, color]) => `.${name} { fill: ${color}; }`);
  return [`rect { fill: ${background}; }`, `text { fill: ${text}; }`, ...rules].join("\n");
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
