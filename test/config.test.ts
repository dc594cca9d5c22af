// The configuration: what an entry inherits, each problem with the command that fixes it, and what the program receives.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../config";

const REQUIRED = { clusterName: "my-cluster", userLogin: "my-login" };
const SHA256 = "ab".repeat(32);
const POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

const INITIAL = ["default", "kube-system", "kube-public", "kube-node-lease"];
const TEAM = { userLogin: undefined, tokenType: "team", teamName: "ops" };
const RUNNER = { tokenType: "runner", runnerId: "id-1", runnerName: "pool" };

const STS = "sts.amazonaws.com";

type Given = Record<string, unknown>;

test("names the issuer after the cluster, and takes the organization of the stack", () => {
  const { issuerName, organization } = accepted();
  assert.deepEqual([issuerName, organization], ["eks-my-cluster", "acme"]);
});

for (const [key, value] of Object.entries({
  namespace: "ci",
  createServiceAccount: false,
  createRole: false,
  rolePolicyArns: [POLICY],
  tokenExpirationSeconds: 600,
  tokenAudience: "urn:pulumi:org:acme",
  audienceRule: true,
  policyRules: { sub: "a*" },
  runJob: false,
  command: ["sh", "-c", "echo $(A)"],
})) {
  test(`${key}: an entry inherits it or replaces it, as a string or typed`, () => {
    const unset = [{ name: "a" }, { name: "b", [key]: "" }, { name: "c", [key]: null }];
    const inherited = accounts({ [key]: value, serviceAccounts: unset });
    for (const account of inherited) assert.deepEqual(account[key], value);

    const own = [{ name: "a", [key]: textOf(value) }, { name: "b", [key]: value }, { name: "c" }];
    const [asString, asTyped, other] = accounts({ serviceAccounts: own });
    assert.deepEqual([asString?.[key], asTyped?.[key]], [value, value]);
    assert.notDeepEqual(other?.[key], value);
  });
}

test("null and an empty string count as unset, in the stack and in an entry", () => {
  const empty = { namespace: "", rolePolicyArns: null, audienceRule: "", teamName: null, tokenType: "" };
  assert.deepEqual(accepted({ ...empty, issuerName: "", "aws:accessKey": "" }), accepted());
  assert.deepEqual(accepted({ serviceAccounts: [{ ...empty, name: null }] }), accepted());
});

for (const [given, scope] of [
  [{ tokenType: "personal", userLogin: "a.b@c" }, "user:a.b@c"],
  [{ tokenType: "organization", organizationAdmin: false }, ""],
  [{ tokenType: "organization", organizationAdmin: true }, "admin"],
  [{ tokenType: "team", teamName: "ops" }, "team:ops"],
  [RUNNER, "runner:pool"],
] satisfies [Given, string][]) {
  test(`${JSON.stringify(given)} requests the scope "${scope}", configured in the stack or in an entry`, () => {
    const [stack] = accounts({ userLogin: undefined, ...given });
    // An entry with a token inherits no token setting of the stack.
    const [own] = accounts({ ...TEAM, ...entries(given) });
    for (const it of [stack, own]) assert.deepEqual([it?.token, it?.tokenScope], [given, scope]);
  });
}

for (const [behavior, given, expected] of [
  ["requires only a cluster and a login", {}, [{ namespace: "default", name: "pulumi-service-account" }]],
  ["without entries, serviceAccountName is the name", { serviceAccountName: "a" }, [{ name: "a" }]],
  ["organizationAdmin in Pulumi.yaml is valid with every token type", { organizationAdmin: "false" }, [{}]],
  [
    "with entries, serviceAccountName is their default",
    { serviceAccountName: "a", ...entries({ namespace: "a" }, { name: "b" }) },
    [{ name: "a" }, { name: "b" }],
  ],
  [
    "a list or an object of an entry replaces the stack's whole",
    {
      rolePolicyArns: [POLICY],
      policyRules: { iss: "b" },
      ...entries({ rolePolicyArns: [], policyRules: { sub: "c" } }),
    },
    [{ rolePolicyArns: [], policyRules: { sub: "c" } }],
  ],
  [
    "createNamespace is inherited, but not for a namespace that every cluster has",
    { createNamespace: "true", ...entries({ namespace: "a" }, ...INITIAL.map((namespace) => ({ namespace }))) },
    [{ createNamespace: true }, ...INITIAL.map(() => ({ createNamespace: false }))],
  ],
  [
    "an entry without a role inherits no policies for it",
    { rolePolicyArns: [POLICY], ...entries({ createRole: false }) },
    [{ rolePolicyArns: [] }],
  ],
  [
    "the command and the rule on the audience follow from the token type and the audience",
    {
      tokenAudience: "a",
      ...entries({ ...RUNNER, audienceRule: false }, { name: "b" }, { name: "c", tokenAudience: STS }),
    },
    [
      { command: ["true"], audienceRule: false },
      { command: ["pulumi", "whoami"], audienceRule: true },
      { command: ["pulumi", "whoami"], audienceRule: false },
    ],
  ],
  [
    "an entry is an object, or JSON",
    { serviceAccounts: [{ name: "a" }, '{"name":"b"}'] },
    [{ name: "a" }, { name: "b" }],
  ],
  ["accepts 40 service accounts", entries(...names(40)), names(40)],
] satisfies [string, Given, Given[]][]) {
  test(behavior, () => {
    const found = accounts(given);
    assert.equal(found.length, expected.length);
    for (const [index, account] of found.entries()) assert.deepEqual(account, { ...account, ...expected[index] });
  });
}

test("an entry that sets one token setting inherits no others", () => {
  for (const key of ["userLogin", "teamName", "runnerId", "runnerName", "organizationAdmin"]) {
    assert.equal(rejected({ ...TEAM, ...entries({ [key]: "true" }) })[0], "serviceAccounts[0].tokenType");
  }
});

test("reports one problem for each encrypted key, and prints none of its values", () => {
  const entries = [{ name: "S3CRET", bad: "s3cret" }];
  const secrets = { teamName: "s3cret", thumbprints: ["s3cret"], "c++": "s3cret", serviceAccounts: entries };
  const own = engineConfig({ ...secrets, clusterName: "s3cret", userLogin: "", image: "x" });
  const keys = [...Object.keys(secrets), "clusterName"].map((key) => `project:${key}`);
  const others = { "other:teamName": "s3cret", "aws:profile": "s3cret", "aws:token": "s3cret" };
  const secretKeys = [...keys, ...Object.keys(others)];
  const { problems } = parseConfig({ ...RAW, config: { ...own, ...others }, secretKeys });
  assert.doesNotMatch(JSON.stringify(problems), /s3cret/i);
  assert.deepEqual(problems.map(({ fix }) => fix.replace("pulumi config ", "")).sort(), [
    "rm --path '[\"c++\"]'",
    "rm aws:token",
    "set --plaintext --path 'serviceAccounts[INDEX].KEY' VALUE",
    "set --plaintext aws:profile VALUE",
    "set --plaintext clusterName VALUE",
    "set --plaintext teamName VALUE",
    "set --plaintext thumbprints VALUE",
    "set image IMAGE",
  ]);
});

test("reports all problems of all entries at once: values to set, then what to remove, from the last to the first", () => {
  const serviceAccounts = [
    { namespace: "CI", tokenType: "team" },
    { name: 7, commnad: ["true"] },
    "b",
    { name: "default", tokenExpirationSeconds: "2h", rolePolicyArns: [POLICY, POLICY, POLICY] },
  ];
  const { problems } = parse({ serviceAccounts });
  const fixes = problems.map(({ setting, fix }) => `${setting}: ${fix.replace("pulumi config ", "")}`);
  assert.deepEqual(fixes, [
    "serviceAccounts[0].namespace = \"CI\": set --path 'serviceAccounts[0].namespace' NAMESPACE",
    "serviceAccounts[0].teamName: set --path 'serviceAccounts[0].teamName' TEAM",
    "serviceAccounts[1].name = 7: set --type string --path 'serviceAccounts[1].name' NAME",
    "serviceAccounts[3].tokenExpirationSeconds = \"2h\": set --path 'serviceAccounts[3].tokenExpirationSeconds' SECONDS",
    "serviceAccounts[3].createServiceAccount = true: set --path 'serviceAccounts[3].createServiceAccount' false",
    "serviceAccounts[1].commnad = [\"true\"]: rm --path 'serviceAccounts[1].commnad'",
    `serviceAccounts[3].rolePolicyArns[2] = "${POLICY}": rm --path 'serviceAccounts[3].rolePolicyArns[2]'`,
    `serviceAccounts[3].rolePolicyArns[1] = "${POLICY}": rm --path 'serviceAccounts[3].rolePolicyArns[1]'`,
    "serviceAccounts[2] = \"b\": rm --path 'serviceAccounts[2]'",
  ]);
});

// Each of these values is rejected, for the reason that follows.
const LONG = "a".repeat(64);
const FIXES: Record<string, RegExp> = { tokenAudience: /^set --plaintext \S+$/, createCluster: /^set true$/ };
for (const [key, values, reason] of [
  ["clusterName", ["-a", "a b", "a/b", "a".repeat(101), "a\n"], /must be the name of an EKS cluster/],
  ["createCluster", ["yes", "True", "1"], /must be true or false/],
  ["namespace", ["A", "a.b", "a_b", "-a", "a-", "*", LONG, "a\n", "\u0430"], /must be 1 to 63 lowercase/],
  ["serviceAccountName", ["a.b", "a*", "a?", "a:b", LONG], /must be 1 to 63 lowercase/],
  ["organization", ["a b", "a/b", "-a", "*", "a."], /must be the name of a Pulumi organization/],
  ["issuerName", [" a", "a ", " "], /must not begin or end with a space/],
  ["userLogin", ["a b", "a*", "user:a", "@a"], /must be the login of a Pulumi user/],
  ["rolePath", ["a", "/a", "a/", "//", "/a b/"], /must be "\/", or begin and end with "\/"/],
  ["image", ["base", "base:latest", "registry:5000/base"], /pinned to a digest or to a tag other than/],
  ["image", [":1", "a b:1", "a@sha256:12", "A:1"], /must be the name of an image/],
  ["tokenAudience", ["a b", "*", "sts?", ".", "..."], /must not contain spaces/],
  ["permissionsBoundaryArn", ["edge", "arn:aws:iam::123456789012:role/a"], /the ARN of an IAM policy/],
  ["tokenExpirationSeconds", ["0", "-1", "1.5", "1e3", "0x10", "007", " 5", "9999999999"], /whole number/],
  ["maxExpirationSeconds", ["0", "1.5", "Infinity"], /must be a whole number of seconds, at least 1/],
  ["tokenType", ["admin"], /must be "personal", "organization", "team", or "runner"/],
  ["pulumiApiUrl", ["a.example", "ftp://a.example", "http://a.example"], /must be https:\/\/HOST/],
  ["pulumiApiUrl", ["http://127.0.0.1.example.com", "http://localhost@example.com"], /a loopback host/],
  ["pulumiApiUrl", ["https://a:b@c.example", "https://c.example/b", "https://c.example?b"], /HOST/],
] satisfies [string, string[], RegExp][]) {
  test(`rejects ${values.map((value) => JSON.stringify(value.slice(0, 20))).join(", ")} for ${key}`, () => {
    for (const value of values) {
      const problem = rejected({ [key]: value });
      assert.equal(problem[0], `${key} = ${JSON.stringify(value)}`);
      assert.match(problem[1], reason);
      assert.match(problem[2], FIXES[key] ?? /^set [A-Z]+$/);
    }
  });
}

test("rejects team names that the allow policy would read as patterns", () => {
  for (const teamName of ["ops-*", "op?", "ops.eu", "a b", "team:a"]) {
    assert.match(rejected({ ...TEAM, teamName })[1], /wildcards .* which also match other teams/);
  }
});

test("accepts an http URL for a loopback host, an image by digest, and every partition", () => {
  for (const settings of [
    { pulumiApiUrl: "http://127.8.9.1:81" },
    { pulumiApiUrl: "http://localhost:3000" },
    { pulumiApiUrl: "http://[::1]:3000" },
    { pulumiApiUrl: "https://a.example:8443" },
    { image: `registry.example:5000/base@sha256:${SHA256}`, rolePath: "/pulumi/ci/" },
    { permissionsBoundaryArn: "arn:aws-us-gov:iam::123456789012:policy/path/a" },
  ]) {
    assert.deepEqual(accepted(settings), { ...accepted(), ...settings });
  }
  assert.equal(accepted({ pulumiApiUrl: "https://a.example/" }).pulumiApiUrl, "https://a.example");
});

// Each of these problems is reported at the setting to change, with the command that fixes it.
const TWO = [{ name: "a" }, { name: "b" }];
const OTHERS = { name: "b", createServiceAccount: false };
const CREATE_NAMESPACE = "serviceAccounts[0].createNamespace";
for (const [given, setting, reason, fix] of [
  [{ clusterName: "" }, "clusterName", "required", "set CLUSTER"],
  [{ clusterNmae: "x" }, "clusterNmae", 'did you mean "clusterName"?', "rm"],
  [{ name: "x" }, "name", 'did you mean "serviceAccountName"?', "rm"],
  [entries({ teamNmae: "x" }), "serviceAccounts[0].teamNmae", 'did you mean "teamName"?', "rm"],
  [entries({ serviceAccountName: "x" }), "serviceAccounts[0].serviceAccountName", 'did you mean "name"?', "rm"],
  [entries({ toString: "x" }), "serviceAccounts[0].toString", "unknown setting", "rm"],
  [entries({ maxExpirationSeconds: "x" }), "serviceAccounts[0].maxExpirationSeconds", "for the whole stack", "rm"],
  // YAML has changed these values already.
  [entries({ name: true }), "serviceAccounts[0].name", "reads it as a boolean", "set --type string NAME"],
  [entries({ command: ["sleep", 0] }), "serviceAccounts[0].command[1]", "a number", "set --type string VALUE"],
  [{ policyRules: { sub: false } }, "policyRules.sub", "reads it as a boolean", "set --type string SUB"],
  // `aws eks get-token` does not receive these, which may be secret.
  [{ "aws:assumeRoles": [{ roleArn: "a" }, { roleArn: "s3cret" }] }, "aws:assumeRoles[1]", "use aws:profile", "rm"],
  [{ "aws:assumeRoles": [{ roleArn: "a", externalId: "s3cret" }] }, "aws:assumeRoles[0].externalId", "profile", "rm"],
  [{ "aws:assumeRoles": "a" }, "aws:assumeRoles", "must be a list", "set [0].roleArn' ARN"],
  [{ "aws:assumeRoleWithWebIdentity": { roleArn: "s3cret" } }, "aws:assumeRoleWithWebIdentity", "aws:profile", "rm"],
  [{ "aws:accessKey": "s3cret" }, "aws:accessKey", "use aws:profile", "rm"],
  [{ "aws:secretKey": "s3cret" }, "aws:secretKey", "use aws:profile", "rm"],
  [{ "aws:token": "s3cret" }, "aws:token", "use aws:profile", "rm"],
  // A value that entries inherit is fixed in the stack, and reported once.
  [{ tokenExpirationSeconds: "7201", serviceAccounts: TWO }, "tokenExpirationSeconds", "which is 7200", "set SECONDS"],
  [{ userLogin: "", serviceAccounts: TWO }, "userLogin", 'required with tokenType "personal"', "set LOGIN"],
  [{ namespace: "CI", ...entries({ namespace: "a" }) }, "namespace", "must be 1 to 63", "set NAMESPACE"],
  [entries({ tokenExpirationSeconds: 7201 }), "serviceAccounts[0].tokenExpirationSeconds", "at most", "set SECONDS"],
  [{ ...TEAM, ...entries({ tokenType: "team" }) }, "serviceAccounts[0].teamName", "required", "set TEAM"],
  [entries({ tokenType: "personal", userLogin: "a", runnerId: "b" }), "serviceAccounts[0].runnerId", "not valid", "rm"],
  // A conflict is fixed in the entry that causes it: the stack's value is right for the other entries.
  [{ createNamespace: true, ...entries({ ...OTHERS, namespace: "c" }) }, CREATE_NAMESPACE, "be false", "set false"],
  [{ createRole: "false", rolePolicyArns: [POLICY] }, "createRole", "must be true with rolePolicyArns", "set true"],
  [{ createNamespace: "true" }, "createNamespace", "exists on every cluster", "set false"],
  [entries({ namespace: "kube-system", createNamespace: true }), CREATE_NAMESPACE, "must be false", "set false"],
  [{ createCluster: "true", createOidcProvider: "true" }, "createOidcProvider", "must be false", "set false"],
  [
    { serviceAccountName: "a", serviceAccounts: [{ namespace: "ci", name: "a" }, ...TWO, { namespace: "ci" }] },
    "serviceAccounts[3].name",
    "service account ci/a is already configured by serviceAccounts[0]",
    "set NAME",
  ],
  [{ serviceAccounts: names(41) }, "serviceAccounts[40]", "at most 40", "rm"],
  [{ serviceAccounts: "a" }, "serviceAccounts", "must be a list", "set [0].name' NAME"],
  [{ serviceAccounts: "null" }, "serviceAccounts", "must be a list", "set [0].name' NAME"],
  [{ serviceAccounts: [[]] }, "serviceAccounts[0]", "must be an object", "rm"],
  [{ rolePolicyArns: [POLICY, "x"] }, "rolePolicyArns[1]", "must be the ARN of an IAM policy", "set VALUE"],
  [{ thumbprints: [SHA256.toUpperCase()] }, "thumbprints[0]", "64 lowercase", "set VALUE"],
  [{ command: "pulumi whoami" }, "command", "must be a list", "set [0]' VALUE"],
  [{ command: [] }, "command", "must name a program", "set [0]' pulumi"],
  [{ command: ["", "a"] }, "command", "must name a program", "set [0]' pulumi"],
  [{ namespace: "c", ...entries({ createNamespace: true }, OTHERS) }, "serviceAccounts[1].runJob", "", "set false"],
  [{ command: ["a\u0000"] }, "command[0]", "null character", "set VALUE"],
  [{ jobPodSpec: { serviceAccountName: "x" } }, "jobPodSpec.serviceAccountName", "must not be set", "rm"],
  [{ jobPodSpec: { containers: [{ image: "x" }] } }, "jobPodSpec.containers[0].name", "required", "set NAME"],
  [{ jobPodSpec: { volumes: [{ name: "a" }, {}] } }, "jobPodSpec.volumes[1].name", "required", "set NAME"],
  [{ policyRules: [] }, "policyRules", "must be an object", "rm"],
  [{ policyRules: '{"__proto__":"a"}' }, "policyRules", "must not contain", "set RULES"],
  [{ policyRules: { sub: "*.?" } }, "policyRules.sub", "only of wildcards", "set SUB"],
  [{ policyRules: { "it's": "*" } }, `policyRules["it's"]`, "only of wildcards", "set VALUE"],
] satisfies [Given, string, string, string][]) {
  test(`rejects ${JSON.stringify(given).slice(0, 90)} at ${setting}`, () => {
    const problem = rejected(given);
    assert.deepEqual([problem[0].replace(/ = .*/s, ""), problem[2]], [setting, fix]);
    assert.ok(problem[1].includes(reason), problem[1]);
    assert.doesNotMatch(problem.join(), /s3cret/);
  });
}

test("policyRules must not replace a built-in rule, in any spelling, and must be paths of claims", () => {
  const builtIn = ['"kubernetes.io".namespace', '"kubernetes.io".serviceaccount.name', "aud"];
  const quoted = ['"kubernetes.io"."namespace"', '"kubernetes.io"."serviceaccount".name', '"aud"'];
  for (const claim of [...builtIn, ...quoted, "", '"sub', "a..b", "a b", "kubernetes.io.pod.name"]) {
    const [, reason, fix] = rejected({ policyRules: { [claim]: "a" } });
    assert.match(reason, /must be the path of a claim, .* other than namespace, name, and aud/);
    assert.equal(fix, "rm");
  }
});

test("rejects an ID or a name of a runner pool that the token exchange cannot request", () => {
  assert.match(rejected({ userLogin: undefined, ...RUNNER, runnerId: "a/b" })[1], /must be the ID of a runner pool/);
  assert.match(rejected({ userLogin: undefined, ...RUNNER, runnerName: "a b" })[1], /without spaces or colons/);
});

test("each token type requires its own settings and rejects those of the others", () => {
  const own: Record<string, Given> = {
    personal: { userLogin: "me" },
    organization: { organizationAdmin: "true" },
    team: { teamName: "ops" },
    runner: { runnerId: "1", runnerName: "pool" },
  };
  for (const [tokenType, settings] of Object.entries(own)) {
    const { problems: missing } = parse({ userLogin: undefined, tokenType });
    const required = Object.keys(settings).filter((key) => key !== "organizationAdmin");
    assert.equal(missing.map(({ setting }) => setting).join(), required.join());
    for (const foreign of Object.values(own).filter((it) => it !== settings)) {
      const { problems } = parse({ userLogin: undefined, tokenType, ...settings, ...foreign });
      const fixes = Object.keys(foreign).map((key) => `pulumi config rm ${key}`);
      assert.deepEqual(problems.map(({ fix }) => fix).sort(), fixes.sort());
      assert.equal(problems[0]?.reason, `not valid with tokenType "${tokenType}"`);
    }
  }
});

const RAW = { secretKeys: [], project: "project", organization: "acme" };

/** Returns the configuration as the engine passes it: strings, and JSON for lists and objects. */
function engineConfig(given: Given): Record<string, string> {
  const entries = Object.entries({ ...REQUIRED, ...given }).filter(([, value]) => value !== undefined);
  return Object.fromEntries(
    entries.map(([key, value]) => [key.includes(":") ? key : `project:${key}`, textOf(value ?? "")]),
  );
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Returns entries that differ in their names. */
function names(count: number): Given[] {
  return Array.from({ length: count }, (_, index) => ({ name: `a${index}` }));
}

function entries(...serviceAccounts: Given[]): Given {
  return { serviceAccounts };
}

function parse(given: Given) {
  return parseConfig({ ...RAW, config: engineConfig(given) });
}

function accepted(given: Given = {}) {
  const { config, problems } = parse(given);
  return config ?? assert.fail(JSON.stringify(problems));
}

function accounts(given: Given): (Given & ReturnType<typeof accepted>["serviceAccounts"][number])[] {
  return accepted(given).serviceAccounts.map((account) => ({ ...account }));
}

/** Returns the setting, the reason, and the fix of the one problem; the fix without the path, which the setting has. */
function rejected(given: Given): [setting: string, reason: string, fix: string] {
  const [problem, ...others] = parse(given).problems;
  assert.deepEqual(others, []);
  const { setting, reason, fix } = problem ?? assert.fail("the configuration is valid");
  const path = setting.replace(/ = .*/s, "").replaceAll("'", "'\\''");
  assert.ok(fix.startsWith("pulumi config ") && fix.includes(path), fix);
  const [before = "", after = ""] = fix.slice("pulumi config ".length).split(path);
  return [setting, reason, (before.replace("--path '", "") + after.replace(/^'/, "").trimStart()).trim()];
}
