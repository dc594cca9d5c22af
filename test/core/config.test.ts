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

/** With one of these, the ID token could assume a role in AWS, or sign in to the cluster. */
const OF_OTHERS = [
  "sts.amazonaws.com",
  "api",
  "https://oidc.eks.us-west-2.amazonaws.com/id/A",
  "xurn:pulumi:a",
];

const policyRules = (...claims: string[]) => claims.map((claim) => ({ [claim]: "a" }));
// The last one is spelled differently.
const BUILT_IN = policyRules("aud", '"kubernetes.io".namespace', '"kubernetes"."io".serviceaccount."name"');
const NO_CLAIMS = policyRules("", '""', '"sub', "a..b", 'a"u"d', "aud ", "kubernetes.io.pod.name");
const INVISIBLE = [{ sub: "a\u202e" }, ...policyRules("a\u3164", '"a\u0007"')];

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

test("accepts names that only contain the word of a placeholder, and a team that is called TEAM", () => {
  for (const teamName of ["SRE-POOL", "TEAM"]) {
    const [account] = accepted(stackOf({ ...entryOf("team"), teamName })).settings.serviceAccounts;
    assert.equal(account?.teamName, teamName);
  }
});

test("accepts the URL of Pulumi Cloud as an audience", () => {
  const settings = withEntry({ tokenAudience: "https://a.example" });
  accepted({ ...settings, pulumiApiUrl: "https://a.example/" });
  assert.equal(rejected(settings).length, 1);
});

test("accepts a region that is newer than the SDK", () => {
  for (const region of ["us-west-9", "sa-west-1"]) {
    assert.equal(accepted({ "aws:region": region }).cluster.aws.region, region);
  }
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

test("rejects null and an empty string in an entry, and says what happens without the key", () => {
  const optional = declarationsOf("ServiceAccount").filter(({ required }) => !required);
  const keys = optional.map(({ name }) => name).sort();
  for (const value of [null, ""]) {
    const empty = Object.fromEntries(keys.map((key) => [key, value]));
    const problems = rejected(stackOf({ ...entryOf("organization"), ...empty })).sort();
    assertProblems(
      problems,
      keys.map((key) => `serviceAccounts[0].${key}: has no value. Set one, or remove the key. Without it, …`),
    );
    assert.ok(problems.some((problem) => problem.endsWith("the token may do what every member may")));
    const [required] = rejected(withEntry({ name: value }));
    assert.equal(required, "serviceAccounts[0].name: required");
  }
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

/** A configuration that is rejected: the minimal one with these settings, and with this change of its one entry. */
interface Rejected {
  rejects: string;
  settings?: Given;
  entry?: Given;
  /** One line for each. */
  problems: string[];
}

const readRejected = (): Rejected[] => parse(readFileSync(goldenPath("rejected"), "utf8"));

const FOUND = readRejected().map(({ problems: _, ...given }) => {
  const { settings, entry } = given;
  return { ...given, problems: rejected({ ...(entry && withEntry(entry)), ...settings }) };
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

/**
 * Values that a rule rejects, and the beginning of the reason. The last column is the token type of an entry that has it.
 * names.test.ts has the names, and apiUrl.test.ts the URLs.
 */
const RULES: [setting: string, values: unknown[], reason: string, tokenType?: string][] = [
  ["clusterName", ["-a", "a".repeat(101)], "must be the name of an EKS cluster"],
  ["aws:region", ["us-wset-2", "us-west2", "eu-wst-1"], "is not a region; did you mean"],
  ["createCluster", ["yes", "1"], "must be true or false"],
  ["audienceRule", ["yes", "1"], "must be true or false"],
  ["issuerName", [" a", "a ", "a\u202eb"], "must not begin or end with a space, or contain invisible"],
  ["maxExpirationSeconds", ["0"], "must be at least 1 second"],
  ["maxExpirationSeconds", ["599"], "must be at least 600 seconds"],
  ["maxExpirationSeconds", ["1000000000"], "must be at most 999999999 seconds"],
  ["permissionsBoundaryArn", ["arn:aws:iam::12345678901:policy/a"], "must be the ARN of an IAM policy"],
  ["permissionsBoundaryArn", ["arn:aws:iam::123456789012:role/a"], "is the ARN of a role, not of an"],
  ["clusterName", ["CLUSTER_NAME"], "replace CLUSTER_NAME, which is a placeholder"],
  ["issuerName", ["eks-CLUSTER_NAME"], "replace CLUSTER_NAME, which is a placeholder"],
  ["rolePath", ["a/", "/a", "//", "/a*/"], 'must be "/", or begin and end with "/"'],
  ["image", ["base", "base:latest", "registry:5000/base"], "must be pinned to a digest or to a tag"],
  ["image", ["A:1", "a b:1", "a@sha256:12"], "must be the name of an image"],
  ["pulumiApiUrl", ["https://APP.pulumi.com:443/"], "must be the URL of the API"],
  ["createNamespaces", [["kube-system"]], "exists on every cluster"],
  ["namespace", ["CI", "a-", "a.b", "a".repeat(64)], "must be 1 to 63 lowercase letters", "personal"],
  ["name", ["-a", "a.b"], "must be 1 to 63 lowercase letters", "personal"],
  ["tokenType", ["admin"], "must be personal, organization, team, or runner", "personal"],
  ["organizationRoleId", ["a/b", "reader of prod"], "must be the ID of a custom role", "organization"],
  ["runnerId", ["a/b"], "must be the ID of a runner pool", "runner"],
  ["userLogin", [511], "must be a string, but YAML reads it as a number; quote it, or", "personal"],
  ["userLogin", ["LOGIN"], "replace LOGIN, which is a placeholder", "personal"],
  ["rolePolicyArns", [POLICY], "must be a list: put it in brackets, [ ]", "personal"],
  ["rolePolicyArns", [{}], "must be a list", "personal"],
  ["tokenAudience", ["urn:pulumi:org:ORGANIZATION"], "replace ORGANIZATION, which is a", "personal"],
  [
    "tokenAudience",
    ["urn:pulumi:a b", "urn:pulumi:*", "urn:pulumi:a\u200bb"],
    "must not contain spaces",
    "personal",
  ],
  ["tokenAudience", OF_OTHERS, "must begin with urn:pulumi:, or be https://api.pulumi.com", "personal"],
  ["policyRules", [[]], "must be an object", "personal"],
  // Valibot would drop it, and the policy would require less.
  ["policyRules", [JSON.parse('{ "__proto__": "a" }')], "must not contain __proto__", "personal"],
  ["policyRules", BUILT_IN, "must not replace a built-in rule", "personal"],
  ["policyRules", NO_CLAIMS, 'must be the path of a claim, such as "kubernetes.io".pod.name', "personal"],
  ["policyRules", INVISIBLE, "must not contain invisible characters", "personal"],
  ["rolePolicyArns", [[POLICY, POLICY]], "must not be listed twice", "personal"],
  ["command", [[], ["", "a"]], 'must name a program, such as ["pulumi","whoami"]', "personal"],
  ["command", [["a\0"]], "must not contain a null character", "personal"],
  ["awsRole", ["IRSA"], "must be irsa, pod-identity, or none", "personal"],
];

for (const [setting, values, reason, tokenType] of RULES) {
  const shown = values.map((value) => JSON.stringify(value).slice(0, 40)).join(", ");
  test(`rejects ${shown} for ${setting}: ${reason}`, () => {
    for (const value of values) {
      const settings = { [setting]: value };
      const problems = rejected(tokenType ? stackOf({ ...entryOf(tokenType), ...settings }) : settings);
      const path = tokenType ? `serviceAccounts[0].${setting}` : setting;
      const [problem = "", ...others] = problems;
      assert.ok(others.length === 0 && problem.startsWith(path) && problem.includes(`: ${reason}`), problem);
    }
  });
}

test("each token type requires its own settings, and rejects those of the others", () => {
  const owners = { ...OWNERS, organization: { organizationAdmin: true } };
  for (const [tokenType, own] of Object.entries(owners)) {
    const required = Object.keys(OWNERS[tokenType] ?? {});
    assert.deepEqual(
      rejected(stackOf({ namespace: "a", name: "b", tokenType })),
      required.map((key) => `serviceAccounts[0].${key}: required with tokenType ${tokenType}`),
    );
    for (const foreign of Object.values(owners).filter((it) => it !== own)) {
      const problems = rejected(stackOf({ namespace: "a", name: "b", tokenType, ...own, ...foreign }));
      const values = Object.entries(foreign).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
      assert.deepEqual(
        problems,
        values.map((it) => `serviceAccounts[0].${it}: is not valid with tokenType ${tokenType}`),
      );
    }
  }
});

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
