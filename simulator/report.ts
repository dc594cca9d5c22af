// What a simulation prints: lines of 80 columns, in which every character of a stack file is visible.

import { styleText } from "node:util";
import * as awsConfig from "@pulumi/aws/config/vars";
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

/** Returns text in lines of 80 columns, the first one behind a prefix, the others behind spaces. Longer words stay whole. */
function wrap(text: string, prefix = ""): string[] {
  const line = new RegExp(`(.{1,${80 - prefix.length}}|\\S+)(?= |$)`, "g");
  const lines = visible(text).match(line) ?? [""];
  return lines.map((it, index) => (index === 0 ? prefix : " ".repeat(prefix.length)) + it.trimStart());
}

function textsThatApply(texts: [applies: unknown, text: string][]): string[] {
  return texts.flatMap(([applies, text]) => (applies ? text : []));
}

/** Returns a row for each service account: whether it is granted its token, what that is, and what is wrong. */
export function accountLines(answers: Answers[], grants: Record<string, string>, { positionOf }: StackFile) {
  const width = Math.min(40, Math.max(15, ...answers.map(({ account }) => account.id.length)));
  const columns = (id: string, result: string) => `${id.padEnd(width)}  ${result.padEnd(7)}  `;
  const rows = answers.flatMap(({ account: { id, namespace, suspended }, denial, unlistedDenial }, index) => {
    const wrong = textsThatApply([
      [suspended && !denial, "suspended, but GRANTED"],
      [!suspended && denial, `${positionOf(["serviceAccounts", index])}: ${denial}`],
      [!unlistedDenial, `asked as ${namespace}/${UNLISTED}: GRANTED`],
    ]);
    const result = wrap(grants[id] ?? "", columns(id, denial ? "denied" : "granted"));
    const lines = [...result, ...wrong.flatMap((text) => wrap(text, "  "))];
    return lines.map((line) => paint(wrong.length === 0 ? "green" : "red", line));
  });
  const heading = wrap("Access token and IAM role", columns("Service account", "Result"));
  return [...heading.map((line) => paint("bold", line)), ...rows];
}

/** Returns what came of asking for the same tokens without an entry, with the reason of the first denial. */
export function unlistedLines(answers: Answers[]): string[] {
  const denials = answers.flatMap(({ unlistedDenial }) => unlistedDenial ?? []);
  const asked = `As a test, ${UNLISTED}, which has no entry, asked for each token.`;
  const denied = `All must be denied: ${denials.length} of ${answers.length} are.`;
  return wrap(`${asked} ${denied} The first denial: ${denials[0] ?? "none"}`);
}

/** Returns how many guardrails of the policy pack hold, and what breaks the others. */
export function guardrailLines(violations: Violation[]): string[] {
  const broken = new Set(violations.map(({ policy }) => policy));
  const lines = violations.flatMap(({ policy, level, name, message }) => {
    const isMandatory = level === "mandatory";
    const what = isMandatory ? "Broken" : "For a reviewer";
    const text = `${what}: ${policy}: ${name}: ${message}`;
    return wrap(text, "  ").map((line) => paint(isMandatory ? "red" : "bold", line));
  });
  const held = policies.length - broken.size;
  return [`${held} of ${policies.length} guardrails of the policy pack hold.`, ...lines];
}

/** Returns a section for each warning of the program, and for what the simulation does not read of a stack file. */
export function noteLines({ project, config, environments, positionOf }: StackFile, warnings: string[]) {
  const unread = Object.keys(config).filter((key) => {
    const [namespace = "", name = ""] = key.split(":");
    if (namespace === "aws") return !(name in awsConfig);
    return ![project, "pulumi", "pulumiservice"].includes(namespace);
  });
  const places = unread.map((key) => `${key} (${positionOf([key])})`).join(", ");
  const missing = `environment is ignored: settings of ${environments.join(", ")} are missing here.`;
  const notes = textsThatApply([
    [environments.length > 0, `${missing} To check with them: pulumi preview --policy-pack policy`],
    [unread.length > 0, `Nothing reads ${places}: misspelled, or a setting of another program.`],
  ]);
  return [...notes, ...warnings].map((note) => wrap(note, "Note: "));
}

/** Returns what is not as it should be; nothing if all is. */
export function failuresOf(answers: Answers[], violations: Violation[], warnings: string[]): string[] {
  const right = answers.filter(({ account: { suspended }, denial, unlistedDenial }) => {
    return suspended === Boolean(denial) && unlistedDenial;
  });
  const mandatory = violations.filter(({ level }) => level === "mandatory");
  const broken = new Set(mandatory.map(({ policy }) => policy)).size;
  return textsThatApply([
    [right.length < answers.length, expectation(right.length, answers)],
    [broken > 0, `${broken} of ${policies.length} guardrails are broken`],
    // config.ts warns so of the template's login.
    [warnings.some((it) => it.includes("An update stops")), "pulumi up stops, as the note says"],
  ]);
}

/** Returns how many tokens are granted, or denied, as the settings say. */
function expectation(right: number, answers: Answers[]): string {
  const hasSuspended = answers.some(({ account }) => account.suspended);
  const granted = `${right} of ${answers.length} tokens are granted to their service account only`;
  return hasSuspended ? `${granted}, or denied while it is suspended` : granted;
}

/** Returns whether all is as it should be. */
export function verdictLines(answers: Answers[], failures: string[]): string[] {
  const isRight = failures.length === 0;
  const right = `${expectation(answers.length, answers)}.`;
  const verdict = isRight ? right : `Not as it should be: ${failures.join("; ")}.`;
  return wrap(verdict).map((line) => paint(isRight ? "green" : "red", line));
}

/** Returns what the simulation cannot know, as far as the stack uses it. */
export function unknownLines(answers: Answers[], { project, config }: StackFile): string[] {
  const accounts = answers.map(({ account }) => account);
  const has = (isUsed: (account: RegisteredAccount) => unknown) => accounts.some(isUsed);
  const rules = accounts.flatMap(({ policyRules, jobName }) => {
    return Object.keys(policyRules).filter((path) => isOnlyKnownToCluster(path, jobName !== undefined));
  });
  const unknown = textsThatApply([
    [true, "whether the cluster exists"],
    [!config[`${project}:organization`], `the organization, for which ${ORGANIZATION} is a placeholder here`],
    [!config["aws:region"], `the region of the environment or of the AWS profile: here, it is ${REGION}`],
    [has(({ teamName }) => teamName), "whether the teams exist, and what they may do"],
    [has(({ userLogin }) => userLogin), "whether the users exist, and what they may do"],
    [has(({ runnerId }) => runnerId), "whether the runner pools exist, with these IDs and names"],
    [has((it) => it.organizationRoleId), "whether the custom roles exist, and what they allow"],
    [has((it) => !it.createServiceAccount), "whether service accounts that are not created exist"],
    [has((it) => it.rolePolicyArns.length > 0), "whether the policies exist, and what they allow"],
    [has(({ runJob }) => runJob), "whether nodes can pull the image of the Jobs, and what is in it"],
    [has(({ injectToken }) => injectToken), "whether the cluster has Kubernetes 1.36, for injectToken"],
    [has((it) => it.tokenType !== "personal"), "whether your edition of Pulumi Cloud grants these tokens"],
    [rules.length > 0, `whether pods match the rules on ${[...new Set(rules)].join(", ")}`],
  ]);
  const heading = paint("bold", "This was a simulation. It cannot know:");
  return [heading, ...unknown.flatMap((text) => wrap(text, "- "))];
}
