// What a simulation prints: lines of 80 columns, in which every character of a stack file is visible.

import { styleText } from "node:util";
import * as awsConfig from "@pulumi/aws/config/vars";
import { policies } from "../policy/index";
import type { Violation } from "../policy/runRules";
import { visible } from "../settings/problems";
import { type Answers, isOnlyKnownToCluster, UNLISTED } from "./exchanges";
import { ORGANIZATION, REGION, type RegisteredAccount } from "./runProgram";
import { type StackFile, TEMPLATE_LOGIN } from "./stackFile";

/** Returns text with a style, if standard output is a terminal that has styles. */
export function paint(style: "bold" | "green" | "red", text: string): string {
  return styleText(style, text, { stream: process.stdout });
}

/** Returns text in lines of 80 columns, the first one behind a prefix, the others behind spaces. Longer words stay whole. */
export function wrap(text: string, prefix = ""): string[] {
  const line = new RegExp(`(.{1,${80 - prefix.length}}|\\S+)(?= |$)`, "g");
  const lines = visible(text).match(line) ?? [""];
  return lines.map((it, index) => (index === 0 ? prefix : " ".repeat(prefix.length)) + it.trimStart());
}

/** Returns a row for each service account: whether it is granted its token, what that is, and what is wrong. */
export function accountLines(answers: Answers[], grants: Record<string, string>, { positionOf }: StackFile) {
  const width = Math.min(40, Math.max(15, ...answers.map(({ account }) => account.id.length)));
  const row = (id: string, result: string, text: string) => {
    return wrap(text, `${id.padEnd(width)}  ${result.padEnd(7)}  `);
  };
  const rows = answers.flatMap(({ account: { id, namespace }, denial, unlistedDenial }, index) => {
    const wrong: string[] = [];
    if (denial !== undefined) wrong.push(`${positionOf(["serviceAccounts", index])}: ${denial}`);
    if (unlistedDenial === undefined) wrong.push(`asked as ${namespace}/${UNLISTED}: GRANTED`);
    const result = row(id, denial === undefined ? "granted" : "denied", grants[id] ?? "");
    const lines = [...result, ...wrong.flatMap((text) => wrap(text, "  "))];
    return lines.map((line) => paint(wrong.length === 0 ? "green" : "red", line));
  });
  const heading = row("Service account", "Result", "Access token and IAM role");
  return [...heading.map((line) => paint("bold", line)), ...rows];
}

/** Returns what came of asking for the same tokens without an entry, with the reason of the first denial. */
export function unlistedLines(answers: Answers[]): string[] {
  const denials = answers.flatMap(({ unlistedDenial }) => unlistedDenial ?? []);
  const asked = `As a test, ${UNLISTED}, which has no entry, asked for each token.`;
  const [first] = denials;
  return [
    ...wrap(`${asked} All must be denied: ${denials.length} of ${answers.length} are.`),
    ...(first ? wrap(`The first denial: ${first}`, "  ") : []),
  ];
}

/** Returns how many guardrails of the policy pack hold, and what breaks the others. */
export function guardrailLines(violations: Violation[], answers: Answers[], { positionOf }: StackFile) {
  const broken = new Set(violations.map(({ policy }) => policy));
  const lines = violations.flatMap(({ policy, level, name, message }) => {
    const index = answers.findIndex(({ account }) => message.split(/[\s"]/).includes(account.id));
    const where = index < 0 ? name : positionOf(["serviceAccounts", index]);
    const [what, style] =
      level === "mandatory" ? (["Broken", "red"] as const) : (["For a reviewer", "bold"] as const);
    return wrap(`${what}: ${policy}: ${where}: ${message}`, "  ").map((line) => paint(style, line));
  });
  const held = policies.length - broken.size;
  return [`${held} of ${policies.length} guardrails of the policy pack hold.`, ...lines];
}

/** Returns what the simulation does not read of a stack file. */
export function notesOn({ project, config, environments, positionOf }: StackFile): string[] {
  const unread = Object.keys(config).filter((key) => {
    const [namespace = "", name = ""] = key.split(":");
    if (namespace === "aws") return !(name in awsConfig);
    return ![project, "pulumi", "pulumiservice"].includes(namespace);
  });
  const places = unread.map((key) => `${key} (${positionOf([key])})`).join(", ");
  const notes = [
    environments.length > 0 &&
      `environment is ignored: settings of ${environments.join(", ")} are missing here. To check with them: pulumi preview --policy-pack policy`,
    places !== "" &&
      `Nothing reads ${places}. The settings of this program begin with ${project}:, or have no prefix.`,
  ];
  return notes.filter((note) => note !== false);
}

/** Returns what is not as it should be; nothing if all is. */
export function failuresOf(answers: Answers[], violations: Violation[], { positionOf }: StackFile): string[] {
  const right = answers.filter(({ denial, unlistedDenial }) => !denial && unlistedDenial);
  const mandatory = violations.filter(({ level }) => level === "mandatory");
  const broken = new Set(mandatory.map(({ policy }) => policy)).size;
  const index = answers.findIndex(({ account }) => account.userLogin === TEMPLATE_LOGIN);
  const login = positionOf(["serviceAccounts", index, "userLogin"]);
  const failures = [
    right.length < answers.length &&
      `${right.length} of ${answers.length} tokens are granted to their service account only`,
    broken > 0 && `${broken} of ${policies.length} guardrails are broken`,
    index >= 0 && `pulumi up stops until you replace ${TEMPLATE_LOGIN} (${login})`,
  ];
  return failures.filter((failure) => failure !== false);
}

/** Returns what the simulation cannot know, as far as the stack uses it. */
export function unknownLines(answers: Answers[], { project, config }: StackFile): string[] {
  const accounts = answers.map(({ account }) => account);
  const has = (isUsed: (account: RegisteredAccount) => unknown) => accounts.some(isUsed);
  const rules = accounts.flatMap(({ policyRules }) => Object.keys(policyRules)).filter(isOnlyKnownToCluster);
  const lines = [
    "whether the cluster exists",
    !config[`${project}:organization`] && `the organization of the stack: here, it is ${ORGANIZATION}`,
    !config["aws:region"] && `the region of the environment or of the AWS profile: here, it is ${REGION}`,
    has(({ teamName }) => teamName) && "whether the teams exist, and what they may do",
    has(({ userLogin }) => userLogin) && "whether the users exist, and what they may do",
    has(({ runnerId }) => runnerId) && "whether the runner pools exist, with these IDs and names",
    has((it) => it.organizationRoleId) && "whether the custom roles exist, and what they allow",
    has((it) => !it.createServiceAccount) && "whether service accounts that are not created exist",
    has((it) => it.rolePolicyArns.length > 0) && "whether the policies exist, and what they allow",
    has(({ runJob }) => runJob) && "whether nodes can pull the image of the Jobs, and what is in it",
    has(({ injectToken }) => injectToken) && "whether the cluster has Kubernetes 1.36, for injectToken",
    has((it) => it.tokenType !== "personal") && "whether your edition of Pulumi Cloud grants these tokens",
    rules.length > 0 && `whether pods match the rules on ${[...new Set(rules)].join(", ")}`,
  ];
  return lines.flatMap((line) => (line ? wrap(line, "- ") : []));
}
