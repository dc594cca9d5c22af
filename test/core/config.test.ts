// The configuration: what the program receives, and every problem with its path, its value, and its reason.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { parseConfig } from "../../config";
import { messageOf } from "../../settings/problems";
import type { RawConfig } from "../../settings/raw";
import { declarationsOf, meaningAndDefault } from "../support/declarations";
import { rawConfigOf } from "../support/rawSettings";
import { goldenPath, writeGolden, yamlOf } from "./document";

const POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

/** The minimal settings of a stack and of an entry. */
const ENTRY = { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "alice" };
const REQUIRED = { clusterName: "my-cluster", serviceAccounts: [ENTRY] };

/** The minimal settings of an entry of each token type about its token. */
const OWNERS: Record<string, Given> = {
  personal: { userLogin: "alice" },
  organization: {},
  team: { teamName: "platform" },
  runner: { runnerId: "pool-1", runnerName: "builders" },
};

type Given = Record<string, unknown>;

test("a cluster and a service account are enough", () => {
  const { cluster, settings } = accepted();
  assert.deepEqual(cluster.aws, { region: undefined, profile: undefined, "role-arn": undefined });
  const [account = assert.fail(), ...others] = settings.serviceAccounts;
  assert.deepEqual([{ ...account, ...ENTRY }, others], [account, []]);
  const { tokenExpirationSeconds, tokenAudience } = account;
  assert.deepEqual([tokenExpirationSeconds, tokenAudience], [3600, "urn:pulumi:org:acme"]);
});

test("the defaults in the descriptions are those of the program", () => {
  const { cluster, settings } = accepted({ clusterName: "my-cluster" });
  const [account] = accepted(stackOf(ENTRY)).settings.serviceAccounts;
  const values: Given = { ...cluster, ...settings, ...account };
  const inWords: Given = {
    organization: "the organization of the stack",
    tokenAudience: "urn:pulumi:org:ORGANIZATION",
    permissionsBoundaryArn: "none",
  };
  const interfaces = ["ClusterSettings", "Settings", "ServiceAccount"];
  for (const { name, comment } of interfaces.flatMap(declarationsOf)) {
    const [, documented] = meaningAndDefault(comment);
    // The defaults of one token type belong to that.
    if (documented === "" || name === "organizationAdmin") continue;
    const value = inWords[name] ?? values[name];
    const written = typeof value === "string" ? value : JSON.stringify(value);
    const expected = written.replace("my-cluster", "CLUSTER_NAME");
    assert.equal(documented.split("; ")[0]?.replaceAll("`", ""), expected, name);
  }
});

test("an entry has an IAM role if it lists policies, even none", () => {
  const roleOf = (settings: Given) => accepted(settings).settings.serviceAccounts[0]?.awsRole;
  assert.equal(roleOf(stackOf(ENTRY)), "none");
  assert.equal(roleOf(withEntry({ rolePolicyArns: [] })), "irsa");
  assert.equal(roleOf(withEntry({ rolePolicyArns: [POLICY], awsRole: "pod-identity" })), "pod-identity");
});

test("an entry inherits only maxExpirationSeconds, and the organization in its audience", () => {
  const entries = [ENTRY, { ...entryOf("team"), namespace: "a" }];
  const shared = { organization: "b", maxExpirationSeconds: "600" };
  const [first, second] = accepted({ ...stackOf(...entries), ...shared }).settings.serviceAccounts;
  assert.deepEqual([first?.tokenExpirationSeconds, first?.tokenAudience], [600, "urn:pulumi:org:b"]);
  assert.deepEqual([second?.userLogin, second?.teamName], [undefined, "platform"]);
});

test("accepts every character that names may have, and the word of a placeholder in one", () => {
  for (const [tokenType, name] of [
    ["personal", { userLogin: `A-${"_".repeat(37)}9` }],
    ["team", { teamName: "SRE-POOL" }],
    ["team", { teamName: "TEAM" }],
    ["team", { teamName: `_!#%&',;<=>@~-aZ9${"a".repeat(83)}` }],
    ["runner", { runnerName: `!#$%&'()*+,-./;<=>?@[]^_\`{|}~aZ9${"a".repeat(68)}` }],
  ] as const) {
    const given = { ...entryOf(tokenType), ...name };
    const [account = {}] = accepted(stackOf(given)).settings.serviceAccounts;
    assert.deepEqual({ ...account, ...given }, account);
  }
  accepted({ organization: `_.-aZ9${"a".repeat(94)}` });
});

test("accepts the URL of Pulumi Cloud as an audience", () => {
  const settings = withEntry({ tokenAudience: "https://a.example" });
  accepted({ ...settings, pulumiApiUrl: "https://a.example/" });
  assert.equal(rejected(settings).length, 1);
});

test("accepts names that use every allowed part, and ignores a trailing slash of pulumiApiUrl", () => {
  const settings = {
    issuerName: "my issuer",
    permissionsBoundaryArn: "arn:aws-us-gov:iam::123456789012:policy/path/a",
    rolePath: "/pulumi/ci/",
    image: `registry.example:5000/base@sha256:${"ab".repeat(32)}`,
    pulumiApiUrl: "https://a.example:8443",
  };
  const found = accepted({ ...settings, pulumiApiUrl: `${settings.pulumiApiUrl}/` }).settings;
  assert.deepEqual(found, { ...found, ...settings });
});

test("null and an empty string count as not given beside the entries", () => {
  assert.deepEqual(accepted({ issuerName: "", createNamespaces: "null", audienceRule: "" }), accepted());
  assert.deepEqual(rejected({ clusterName: "" }), ["clusterName: required"]);
});

test("accepts what exists on every cluster, or may exist by now: in namespaces that the stack creates", () => {
  const existing = { ...ENTRY, createServiceAccount: false };
  const entries = [
    { ...ENTRY, namespace: "default" },
    { ...existing, namespace: "kube-system", name: "coredns" },
    { ...existing, namespace: "ci" },
  ];
  accepted({ ...stackOf(...entries), createCluster: true, createNamespaces: ["ci"] });
  accepted({ ...stackOf(existing, { ...existing, name: "default" }), createNamespaces: ["ci"] });
});

/** Configurations that are rejected: the minimal one with these settings, and with a change of its one entry. */
interface Rejected {
  rejects: string;
  settings?: Given;
  entry?: Given;
  /** In place of both: values of one setting, which is that of an entry if that has a token type. */
  setting?: string;
  tokenType?: string;
  values?: unknown[];
  /** One line for each. */
  problems: string[];
}

const readRejected = (): Rejected[] => parse(readFileSync(goldenPath("rejected"), "utf8"));

const FOUND = readRejected().map(({ problems: _, ...given }) => {
  const { settings, entry, setting = "", tokenType, values } = given;
  const givenSettings = values?.map((value) => ({ [setting]: value })) ?? [
    { ...(entry && withEntry(entry)), ...settings },
  ];
  const problems = givenSettings.flatMap((it) =>
    rejected(tokenType ? stackOf({ ...entryOf(tokenType), ...it }) : it),
  );
  return { ...given, problems };
});
writeGolden(goldenPath("rejected"), FOUND.map((it) => yamlOf([it])).join("\n"));

for (const [index, { rejects, problems }] of readRejected().entries()) {
  test(`rejects ${rejects}`, () => {
    assert.deepEqual(FOUND[index]?.problems, problems);
  });
}

test("rejects more entries with injectToken than its admission policy can contain", () => {
  const entries = Array.from({ length: 1000 }, (_, index) => {
    const name = `app-${index}-`.padEnd(63, "a");
    return { ...ENTRY, namespace: "n".repeat(63), name, injectToken: true };
  });
  assertProblems(rejected(stackOf(...entries)), [
    "serviceAccounts: too many entries have injectToken: its admission policy has an expression of 154002 characters, and the API server accepts 100000. …",
  ]);
});

/** What would not be visible in the document. */
const INVISIBLE: [entry: Given, reason: string][] = [
  [{ tokenAudience: "urn:pulumi:a\u200bb" }, "must not contain spaces"],
  [{ command: ["a\0"] }, "must not contain a null character"],
  // Valibot would drop it, and the policy would require less.
  [{ policyRules: JSON.parse('{ "__proto__": "a" }') }, "must not contain __proto__"],
  ...[{ sub: "a\u202e" }, { "a\u3164": "a" }, { '"a\u0007"': "a" }].map((policyRules): [Given, string] => {
    return [{ policyRules }, "must not contain invisible characters"];
  }),
];

for (const [entry, reason] of INVISIBLE) {
  test(`rejects ${JSON.stringify(entry)}: ${reason}`, () => {
    const [problem = "", ...others] = rejected(withEntry(entry));
    assert.ok(others.length === 0 && problem.includes(`: ${reason}`), problem);
  });
}

test("requires an organization in a stack that has none", () => {
  const { problems } = resultOf({}, { organization: undefined });
  assert.deepEqual(linesOf(problems), [
    "organization: required, because the stack has no organization: set it to yours in Pulumi Cloud",
  ]);
  assert.deepEqual(resultOf({ organization: "b" }, { organization: undefined }).problems, []);
});

test("rejects encrypted values wherever they are, each once, and prints no value of a file that has one", () => {
  const settings = ["serviceAccounts", "maxExpirationSeconds"].map((key) => `project:${key}`);
  const secretKeys = [...settings, "aws:profile", "aws:secretKey", "other:a"];
  const entry = { ...ENTRY, name: "hunter2" };
  const entries = [entry, { ...entry, tokenExpirationSeconds: 43210 }, { ...ENTRY, namespace: "Hunter2" }];
  const aws = { "aws:profile": "hunter2", "aws:secretKey": "hunter2" };
  const { problems } = resultOf(
    { ...stackOf(...entries), maxExpirationSeconds: 4321, ...aws },
    { secretKeys },
  );
  const reason =
    "contains an encrypted value, which would be stored in plaintext in the stack's state: set it without --secret";
  assertProblems(linesOf(problems), [
    `serviceAccounts: ${reason}`,
    "serviceAccounts[1].name: must not be listed twice",
    "serviceAccounts[2].namespace: must be 1 to 63…",
    `maxExpirationSeconds: ${reason}`,
    `aws:profile: ${reason}`,
    "aws:secretKey: is not supported by `aws eks get-token`…",
  ]);
  // An entry's name is not printed either.
  assert.doesNotMatch(messageOf("", problems), /hunter2/i);
});

test("names the entry of a problem, and prints neither what looks like a token or contains a password, nor unknown settings", () => {
  const token = `pul-${"0f".repeat(20)}`;
  const entries = [
    { ...entryOf("team"), teamName: `${token}:a`, key: token },
    { ...entryOf("team"), name: token, teamName: "*" },
    { ...ENTRY, name: "A" },
  ];
  const given = { ...stackOf(...entries), token, pulumiApiUrl: "https://a:b@c.example" };
  const { problems } = resultOf(given);
  const message = messageOf("", problems);
  assert.deepEqual(message.match(/(?<=^ {2})serviceAccounts.*?(?=:)/gm), [
    "serviceAccounts[0] (ci/team).key",
    "serviceAccounts[0] (ci/team).teamName",
    'serviceAccounts[1].teamName = "*"',
    'serviceAccounts[2].name = "A"',
  ]);
  assert.equal(problems.length, 6);
  assert.doesNotMatch(message, /pul-|a:b@/);
});

test("escapes control, bidirectional, and invisible characters in values and names", () => {
  const entry = { userLogin: "a\u202eb\u200b\u00a0\u3164\n", policyRules: { "a\u202e": "x" } };
  const odd = { ...withEntry(entry), "a\u202e": "x" };
  const other = { clusterName: undefined, "ev\u202eil:clusterName": "a" };
  assertProblems(rejected({ ...odd, ...other }), [
    '"a\\u{202e}": unknown setting',
    "clusterName: required. Pulumi ignores ev\\u{202e}il:clusterName…",
    'serviceAccounts[0].userLogin = "a\\u{202e}b\\u{200b}\\u{a0}\\u{3164}\\n": must be the login of a Pulumi user…',
    'serviceAccounts[0].policyRules["a\\u{202e}"] = "x": must not contain invisible characters',
  ]);
});

function entryOf(tokenType: string): Given {
  return { namespace: "ci", name: tokenType, tokenType, ...OWNERS[tokenType] };
}

/** Returns the settings of a stack with one entry. */
function withEntry(settings: Given): Given {
  return stackOf({ ...ENTRY, ...settings });
}

/** Returns the settings of a stack that lists its service accounts. */
function stackOf(...serviceAccounts: unknown[]): Given {
  return { serviceAccounts };
}

function resultOf(given: Given, raw: Partial<RawConfig> = {}) {
  return parseConfig(rawConfigOf({ ...REQUIRED, ...given }, raw));
}

function accepted(given: Given = {}) {
  const { config, problems } = resultOf(given);
  return config ?? assert.fail(linesOf(problems).join("\n"));
}

/** Returns a line for each problem, without the name of the entry that it is about. */
function rejected(given: Given): string[] {
  return linesOf(resultOf(given).problems);
}

function linesOf(problems: Parameters<typeof messageOf>[1]): string[] {
  return messageOf("", problems)
    .split("\n")
    .slice(2, -1)
    .map((line) => line.slice(2).replace(/^(serviceAccounts\[\d+\]) \([^)]*\)/, "$1"));
}

/** Asserts that these are the problems. In an expected one, … is a placeholder for any string. */
function assertProblems(problems: string[], expected: string[]): void {
  const shown = problems.map((problem, index) => {
    const [beginning = "", end] = expected[index]?.split("…") ?? [];
    const isExpected = end !== undefined && problem.startsWith(beginning) && problem.endsWith(end);
    return isExpected ? expected[index] : problem;
  });
  assert.deepEqual(shown, expected);
}
