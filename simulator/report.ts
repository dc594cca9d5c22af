// What a simulation prints: lines of 80 columns, in which every character of a stack file is visible.

import { styleText } from "node:util";
import { policies } from "../policy/index";
import type { Violation } from "../policy/runRules";
import { visible } from "../settings/problems";
import { type Answers, isOnlyKnownToCluster, UNLISTED } from "./exchanges";
import { ORGANIZATION, REGION } from "./runProgram";
import type { StackFile } from "./stackFile";

/** Returns text with a style, if standard output is a terminal that has styles. */
export function paint(style: "bold" | "green" | "red", text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Returns text in lines, all but the first one behind `indent`. Words that are longer than a line stay whole. */
export function wrap(text: string, indent = ""): string[] {
  const [first = "", ...words] = visible(text).split(/(?<! ) (?! )/);
  const lines = [first];
  for (const word of words) {
    const line = `${lines.at(-1)} ${word}`;
    if (line.length <= 80) lines.splice(-1, 1, line);
    else lines.push(indent + word);
  }
  return lines;
}

/** Returns a row for each service account: what came of asking for its token, what it is granted, and what is wrong. */
export function accountLines(
  answers: Answers[],
  grants: Record<string, string>,
  { positionOf }: StackFile,
): string[] {
  const width = Math.min(40, Math.max(15, ...answers.map(({ account }) => account.id.length)));
  const row = (id: string, result: string, text: string) => {
    return wrap(`${id.padEnd(width)}  ${result.padEnd(7)}  ${text}`, " ".repeat(width + 11));
  };
  const rows = answers.flatMap(({ account: { id, namespace, policyRules }, own, unlisted }, index) => {
    const position = positionOf(["serviceAccounts", index, "policyRules"]);
    const assumed = Object.entries(policyRules).filter(([path]) => isOnlyKnownToCluster(path));
    const isGranted = own.result === "granted";
    const style = isGranted ? "green" : "red";
    const others = [
      ...own.why.map((why) => (own.result === "denied" && position ? `${position}: ${why}` : why)),
      ...assumed.map(([path, pattern]) => `assumed to match its pods: ${path} = ${pattern}`),
    ];
    const wrong =
      unlisted.result === "denied"
        ? []
        : [`asked as ${namespace}/${UNLISTED}: ${unlisted.result.toUpperCase()}`, ...unlisted.why];
    return [
      ...row(id, own.result, grants[id] ?? "").map((line) => paint(style, line)),
      ...others.flatMap((line) => wrap(`  ${line}`, "    ")),
      ...wrong.flatMap((line) => wrap(`  ${line}`, "    ")).map((line) => paint("red", line)),
    ];
  });
  return [
    ...row("Service account", "Result", "Access token and IAM role").map((line) => paint("bold", line)),
    ...rows,
  ];
}

/** Returns what came of asking for the same tokens without an entry, with the reason of the first denial. */
export function unlistedLines(answers: Answers[]): string[] {
  const denied = answers.filter(({ unlisted }) => unlisted.result === "denied");
  const names = listed(answers.map(({ account }) => `${account.namespace}/${UNLISTED}`));
  const [first] = denied.flatMap(({ unlisted }) => unlisted.why);
  return [
    ...wrap(
      `The same tokens, asked as ${names}, without an entry: denied ${denied.length} of ${answers.length}.`,
    ),
    ...(first ? wrap(`  Reason: ${first}`, "    ") : []),
  ];
}

/** Returns how many guardrails of the policy pack hold, and what breaks the others. */
export function guardrailLines(violations: Violation[]): string[] {
  const reported = new Set(violations.map(({ policy }) => policy));
  const lines = violations.flatMap(({ policy, level, name, message }) => {
    const what = level === "mandatory" ? "Broken" : "For a reviewer";
    const style = level === "mandatory" ? "red" : "bold";
    return wrap(`  ${what}: ${policy}: ${name ?? "stack"}: ${message}`, "    ").map((line) =>
      paint(style, line),
    );
  });
  return [
    `Guardrails of the policy pack: ${policies.length - reported.size} of ${policies.length} hold.`,
    ...lines,
  ];
}

/** Returns what a stack file lacks, and which of its settings nothing reads. */
export function notesOn({ project, config, environments, positionOf }: StackFile): string[] {
  const isRead = (key: string) =>
    [project, "aws", "pulumi", "pulumiservice"].includes(key.replace(/:.*/, ""));
  const unread = Object.keys(config).filter((key) => !isRead(key));
  const notes = [
    environments.length > 0 &&
      `environment is ignored: the simulation does not open ${environments.join(", ")}, so settings from there are missing. To check with them: pulumi preview --policy-pack policy`,
    !config[`${project}:organization`] &&
      `organization is not set: the simulation uses "${ORGANIZATION}", and Pulumi the organization of the stack.`,
    !config["aws:region"] &&
      `aws:region is not set: the simulation uses ${REGION}, and Pulumi the region of the environment or of the AWS profile.`,
    unread.length > 0 &&
      `Settings of other programs, which nothing checks here: ${unread.map((key) => `${key} (${positionOf([key])})`).join(", ")}. This program's begin with ${project}:, or have no prefix.`,
  ];
  return notes.filter((note) => note !== false);
}

/** Returns what the simulation cannot know, as far as the stack uses it. */
export function unknownLines(answers: Answers[], { project, config }: StackFile): string[] {
  const accounts = answers.map(({ account }) => account);
  const { [`${project}:createCluster`]: createCluster, [`${project}:clusterName`]: clusterName } = config;
  const names: [string, unknown[]][] = [
    ["the cluster", [createCluster === "true" || clusterName]],
    ["the team", accounts.map(({ teamName }) => teamName)],
    ["the user", accounts.map(({ userLogin }) => userLogin)],
    [
      "the runner pool",
      accounts.map(({ runnerId, runnerName }) => runnerId && `${runnerName} (${runnerId})`),
    ],
    ["the custom role", accounts.map(({ organizationRoleId }) => organizationRoleId)],
    ["the service account", accounts.map(({ id, createServiceAccount }) => createServiceAccount || id)],
    ["the policy", accounts.flatMap(({ rolePolicyArns }) => rolePolicyArns)],
  ];
  const used = names.flatMap(([what, all]) => {
    const found = all.filter((name) => typeof name === "string");
    return found.length > 0 ? `${what} ${listed(found)}` : [];
  });
  const lines = [
    used.length > 0 && `whether these exist: ${used.join("; ")}`,
    accounts.some(({ runJob }) => runJob) &&
      "whether nodes can pull the image of the Jobs, and what is in it",
    accounts.some(({ injectToken }) => injectToken) &&
      "whether the cluster has Kubernetes 1.36, for injectToken",
    accounts.some(({ teamName, organizationRoleId }) => teamName ?? organizationRoleId) &&
      "whether your edition of Pulumi Cloud has teams and custom roles",
  ];
  return lines.filter((line) => line !== false).flatMap((line) => wrap(`- ${line}`, "  "));
}

/** Returns up to three different names, and how many more there are. */
function listed(names: string[]): string {
  const different = [...new Set(names)];
  const shown = different.slice(0, 3).join(", ");
  return different.length > 3 ? `${shown}, and ${different.length - 3} more` : shown;
}
