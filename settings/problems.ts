// The problems of settings, and the message that lists them.

/** The keys and indexes that lead to a setting, such as `["serviceAccounts", 0, "teamName"]`. */
export type Path = (string | number)[];

/** One problem of a setting. */
export interface Problem {
  path: Path;
  /** The name of the list's element that it is about, such as `team-a/app`. */
  element?: string;
  /** What the setting must be, or what to do. */
  reason: string;
  /** The value, if it may be shown. */
  value?: unknown;
}

/**
 * Returns the message that lists problems, one on each line, below a title.
 *
 * @param consequence a sentence about what has been changed.
 */
export function messageOf(title: string, problems: Problem[], consequence = "Nothing was changed."): string {
  const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
  const lines = inOrder(problems).map((problem) => `  ${lineOf(problem)}\n`);
  return `${title} (${count}). ${consequence}\n\n${lines.join("")}`;
}

/** Returns a problem as one line: the path of the setting, its value if it may be shown, and the reason. */
export function lineOf(problem: Problem): string {
  return `${pathOf(problem)}${assigned(problem.value)}: ${visible(problem.reason)}`;
}

/** Returns a problem without its value, which is then not printed. */
export function withoutValue({ path, reason }: Problem): Problem {
  return { path, reason };
}

/** Returns a string with every character escaped that is invisible, or changes the order of the others. */
export function visible(text: string): string {
  return text.replace(/(?! )[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}]/gu, (character) => {
    return `\\u{${character.codePointAt(0)?.toString(16)}}`;
  });
}

/** Returns problems setting by setting, and those of a list element by element. */
function inOrder(problems: Problem[]): Problem[] {
  const bySetting = new Map<unknown, Problem[]>();
  for (const problem of problems) {
    const [setting] = problem.path;
    bySetting.set(setting, [...(bySetting.get(setting) ?? []), problem]);
  }
  const indexOf = ({ path: [, index] }: Problem) => (typeof index === "number" ? index : -1);
  return [...bySetting.values()].flatMap((group) => group.toSorted((a, b) => indexOf(a) - indexOf(b)));
}

/** Returns a path as users write it, such as `serviceAccounts[0].teamName`, with the name of the list's element. */
function pathOf({ path: [first, ...others], element }: Problem): string {
  const quoted = (key: string) => visible(JSON.stringify(key));
  const isName = (key: string) => /^[\w:-]+$/.test(key);
  const setting = String(first);
  const elementName = element && !LIKE_A_SECRET.test(element) ? ` (${element})` : "";
  const steps = others.map((step, depth) => {
    if (typeof step === "number") return depth === 0 ? `[${step}]${elementName}` : `[${step}]`;
    return isName(step) ? `.${step}` : `[${quoted(step)}]`;
  });
  return [isName(setting) ? setting : quoted(setting), ...steps].join("");
}

// What the exchange script would not print either: a token, or the password of a URL.
const LIKE_A_SECRET = /[\w+=-]{40,}|\/\/[^/@ ]+@/;

/** Returns a scalar as ` = VALUE`. Lists and objects are not shown, nor what looks like a secret. */
function assigned(value: unknown): string {
  if (value === undefined || typeof value === "object" || typeof value === "function") return "";
  const text = JSON.stringify(value) ?? String(value);
  return LIKE_A_SECRET.test(text) ? "" : ` = ${visible(text)}`;
}
