// What a simulation prints: lines of 80 columns, in which every character of a stack file is visible.

import { styleText } from "node:util";
import { policies } from "../policy/index";
import type { Violation } from "../policy/runRules";
import { visible } from "../settings/problems";
import { type Answers, isOnlyKnownToCluster, UNLISTED } from "./exchanges";
import { ORGANIZATION, REGION, type RegisteredAccount } from "./runProgram";
import type { StackFile } from "./stackFile";

/** Returns text with a style, if standard output is a terminal that has styles. */
export function paint(style: "bold" | "green" | "red", text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Returns text in lines of 80 columns, all but the first one behind `indent`. Words that are longer than a line stay whole. */
export function wrap(text: string, indent = ""): string[] {
  const [, start = "", rest = ""] = /^( *)(.*)$/s.exec(visible(text)) ?? [];
  const lines: string[] = [];
  let line = start;
  for (const word of rest.split(" ")) {
    const isFirst = line.trim() === "";
    if (!isFirst && line.length + 1 + word.length > 80) {
      lines.push(line);
      line = indent + word;
    } else {
      line += isFirst ? word : ` ${word}`;
    }
  }
  return [...lines, line];
}

/** Returns a row for each service account: what came of asking for its token, what it is granted, and what is wrong. */
export function accountLines(answers: Answers[], grants: Record<string, string>, { positionOf }: StackFile) {
  const width = Math.min(40, Math.max(15, ...answers.map(({ account }) => account.id.length)));
  const row = (id: string, result: string, text: string) => {
    return wrap(`${id.padEnd(width)}  ${result.padEnd(7)}  ${text}`, " ".repeat(width + 11));
  };
  const below = (texts: string[]) => texts.flatMap((text) => wrap(`  ${text}`, "    "));
  const rows = answers.flatMap(({ account: { id, namespace, policyRules }, own, unlisted }, index) => {
    const position = positionOf(["serviceAccounts", index]);
    const isDenied = own.result === "denied" && position !== undefined;
    const assumed = Object.entries(policyRules).filter(([path]) => isOnlyKnownToCluster(path));
    const wrong = [`asked as ${namespace}/${UNLISTED}: ${unlisted.result.toUpperCase()}`, ...unlisted.why];
    return [
      ...row(id, own.result, grants[id] ?? "").map((line) => {
        return paint(own.result === "granted" ? "green" : "red", line);
      }),
      ...below(isDenied ? own.why.map((why) => `${position}: ${why}`) : own.why),
      ...below(assumed.map(([path, pattern]) => `assumed to match its pods: ${path} = ${pattern}`)),
      ...below(unlisted.result === "denied" ? [] : wrong).map((line) => paint("red", line)),
    ];
  });
  const heading = row("Service account", "Result", "Access token and IAM role");
  return [...heading.map((line) => paint("bold", line)), ...rows];
}

/** Returns what came of asking for the same tokens without an entry, with the reason of the first denial. */
export function unlistedLines(answers: Answers[]): string[] {
  const denied = answers.filter(({ unlisted }) => unlisted.result === "denied");
  const [first] = denied.flatMap(({ unlisted }) => unlisted.why);
  return [
    ...wrap(`Each token was also asked for as ${UNLISTED}: ${denied.length} of ${answers.length} denied.`),
    ...(first ? wrap(`  The first one, because ${first}`, "  ") : []),
  ];
}

/** Returns how many guardrails of the policy pack hold, and what breaks the others. */
export function guardrailLines(violations: Violation[]): string[] {
  const reported = new Set(violations.map(({ policy }) => policy));
  const lines = violations.flatMap(({ policy, level, name, message }) => {
    const [what, style] =
      level === "mandatory" ? (["Broken", "red"] as const) : (["For a reviewer", "bold"] as const);
    return wrap(`  ${what}: ${policy}: ${name}: ${message}`, "    ").map((line) => paint(style, line));
  });
  return [
    `${policies.length - reported.size} of ${policies.length} guardrails of the policy pack hold.`,
    ...lines,
  ];
}

/** Returns what a stack file lacks, and which of its settings nothing reads. */
export function notesOn({ project, config, environments, positionOf }: StackFile): string[] {
  const read = [project, "aws", "pulumi", "pulumiservice"];
  const unread = Object.keys(config).filter((key) => !read.includes(key.replace(/:.*/, "")));
  const places = unread.map((key) => `${key} (${positionOf([key])})`);
  const notes = [
    environments.length > 0 &&
      `environment is ignored: the simulation does not open ${environments.join(", ")}, so settings from there are missing. To check with them: pulumi preview --policy-pack policy`,
    !config[`${project}:organization`] &&
      `organization is not set: the simulation uses "${ORGANIZATION}", and Pulumi the organization of the stack.`,
    !config["aws:region"] &&
      `aws:region is not set: the simulation uses ${REGION}, and Pulumi the region of the environment or of the AWS profile.`,
    unread.length > 0 &&
      `Settings of other programs, which nothing checks here: ${places.join(", ")}. This program's begin with ${project}:, or have no prefix.`,
  ];
  return notes.filter((note) => note !== false);
}

/** Returns what the simulation cannot know, as far as the stack uses it. */
export function unknownLines(answers: Answers[]): string[] {
  const has = (isUsed: (account: RegisteredAccount) => unknown) =>
    answers.some(({ account }) => isUsed(account));
  const lines = [
    "whether the cluster exists",
    has(({ teamName }) => teamName) && "whether the teams exist, and what they may do",
    has(({ userLogin }) => userLogin) && "whether the users exist, and what they may do",
    has(({ runnerId }) => runnerId) &&
      "whether the runner pools exist, and whether IDs and names belong together",
    has(({ organizationRoleId }) => organizationRoleId) &&
      "whether the custom roles exist, and what they allow",
    has(({ createServiceAccount }) => !createServiceAccount) &&
      "whether service accounts that are not created exist",
    has(({ rolePolicyArns }) => rolePolicyArns.length > 0) &&
      "whether the policies exist, and what they allow",
    has(({ runJob }) => runJob) && "whether nodes can pull the image of the Jobs, and what is in it",
    has(({ injectToken }) => injectToken) && "whether the cluster has Kubernetes 1.36, for injectToken",
    has(({ tokenType }) => tokenType !== "personal") &&
      "whether your edition of Pulumi Cloud grants these tokens",
  ];
  return lines.flatMap((line) => (line ? wrap(`- ${line}`, "  ") : []));
}
