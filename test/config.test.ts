// The configuration: what an entry inherits, each problem with the command that fixes it, and what the program receives.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../config";

const REQUIRED = { clusterName: "my-cluster", userLogin: "my-login" };
const SHA256 = "ab".repeat(32);
const POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

const EXISTING = { createServiceAccount: false };

const TEAM = { userLogin: undefined, tokenType: "team", teamName: "ops" };

type Given = Record<string, unknown>;

test("requires only a cluster and a login", () => {
  const { issuerName, organization, serviceAccounts } = accepted();
  assert.deepEqual([issuerName, organization], ["eks-my-cluster", "acme"]);
  const found = serviceAccounts.map(({ namespace, name, tokenScope }) => [namespace, name, tokenScope]);
  assert.deepEqual(found, [["default", "pulumi-service-account", "user:my-login"]]);
});

// Each setting that an entry can inherit, as the engine passes it, as YAML types it, and as the program receives it.
const INHERITABLE: [key: string, text: string, typed: unknown, value: unknown][] = [
  ["namespace", "ci", "ci", "ci"],
  ["createServiceAccount", "false", false, false],
  ["createRole", "false", false, false],
  ["rolePolicyArns", `["${POLICY}"]`, [POLICY], [POLICY]],
  ["tokenExpirationSeconds", "600", 600, 600],
  ["tokenAudience", "urn:pulumi:org:acme", "urn:pulumi:org:acme", "urn:pulumi:org:acme"],
  ["audienceRule", "true", true, true],
  ["policyRules", '{"sub":"a*"}', { sub: "a*" }, { sub: "a*" }],
  ["runJob", "false", false, false],
  ["command", '["sh","-c","echo $(A)"]', ["sh", "-c", "echo $(A)"], ["sh", "-c", "echo $(A)"]],
];
for (const [key, text, typed, value] of INHERITABLE) {
  test(`${key}: an entry inherits it or replaces it, as a string or typed`, () => {
    const unset = [{ name: "a" }, { name: "b", [key]: "" }, { name: "c", [key]: null }];
    const inherited = accounts({ [key]: text, serviceAccounts: unset });
    for (const account of inherited) assert.deepEqual(account[key], value);

    const own = [{ name: "a", [key]: text }, { name: "b", [key]: typed }, { name: "c" }];
    const [asString, asTyped, other] = accounts({ serviceAccounts: own });
    assert.deepEqual([asString?.[key], asTyped?.[key]], [value, value]);
    assert.notDeepEqual(other?.[key], value);
  });
}

test("a list or an object of an entry replaces the stack's whole", () => {
  const own = { rolePolicyArns: [`${POLICY}2`], policyRules: { sub: "c*" } };
  const stack = { rolePolicyArns: [POLICY], policyRules: { iss: "b*" } };
  const [account] = accounts({ ...stack, serviceAccounts: [own] });
  assert.deepEqual([account?.rolePolicyArns, account?.policyRules], Object.values(own));
});

test("without entries, serviceAccountName is the one service account's name; with entries, each one's default", () => {
  const stack = { serviceAccountName: "runner" };
  assert.equal(accounts(stack)[0]?.name, "runner");
  const [inherited, own] = accounts({ ...stack, serviceAccounts: [{ namespace: "a" }, { name: "b" }] });
  assert.deepEqual([inherited?.name, own?.name], ["runner", "b"]);
});

test("null and an empty string count as unset, in the stack and in an entry", () => {
  const empty = { namespace: "", rolePolicyArns: null, audienceRule: "", teamName: null, tokenType: "" };
  assert.deepEqual(accepted({ ...empty, issuerName: "" }), accepted());
  assert.deepEqual(accepted({ serviceAccounts: [{ ...empty, name: null }] }), accepted());
  assert.equal(rejected({ clusterName: "" })[1], "required");
});

for (const [given, token, scope] of [
  [{ userLogin: "a.b@c" }, { tokenType: "personal", userLogin: "a.b@c" }, "user:a.b@c"],
  [{ tokenType: "organization" }, { tokenType: "organization", organizationAdmin: false }, ""],
  [
    { tokenType: "organization", organizationAdmin: "true" },
    { tokenType: "organization", organizationAdmin: true },
    "admin",
  ],
  [{ tokenType: "team", teamName: "ops" }, { tokenType: "team", teamName: "ops" }, "team:ops"],
  [
    { tokenType: "runner", runnerId: "id-1", runnerName: "pool" },
    { tokenType: "runner", runnerId: "id-1", runnerName: "pool" },
    "runner:pool",
  ],
] satisfies [Given, Given, string][]) {
  test(`${JSON.stringify(given)} requests the scope "${scope}", configured in the stack or in an entry`, () => {
    // Pulumi.yaml's default of organizationAdmin reaches every token type.
    const [stack] = accounts({ userLogin: undefined, organizationAdmin: "false", ...given });
    // An entry with a token inherits none of the stack's keys.
    const [own] = accounts({ ...TEAM, serviceAccounts: [{ tokenType: "personal", ...given }] });
    for (const it of [stack, own]) assert.deepEqual([it?.token, it?.tokenScope], [token, scope]);
  });
}

test("an entry with a token key must name its token type, and completes no token that it would inherit", () => {
  for (const key of ["userLogin", "teamName", "runnerId", "runnerName", "organizationAdmin"]) {
    const problem = rejected({ ...TEAM, serviceAccounts: [{ name: "a" }, { name: "b", [key]: "true" }] });
    assert.deepEqual(problem, ["serviceAccounts[1].tokenType", "required", "set TYPE"]);
  }
  assert.equal(rejected({ ...TEAM, ...entry({ tokenType: "team" }) })[0], "serviceAccounts[0].teamName");
  const foreign = rejected(entry({ tokenType: "personal", userLogin: "a", runnerId: "b" }));
  assert.deepEqual([foreign[0], foreign[2]], ['serviceAccounts[0].runnerId = "b"', "rm"]);
});

test("the command and the rule on the audience follow from the token type and the audience", () => {
  const runner = { tokenType: "runner", runnerId: "1", runnerName: "pool", audienceRule: false };
  const sts = { name: "c", tokenAudience: "sts.amazonaws.com" };
  const serviceAccounts = [{ name: "a", ...runner }, { name: "b" }, sts];
  const found = accounts({ tokenAudience: "urn:pulumi:org:acme", serviceAccounts });
  const both = found.map(({ command, audienceRule }) => `${command} ${audienceRule}`);
  assert.deepEqual(both, ["true false", "pulumi,whoami true", "pulumi,whoami false"]);
});

test("createNamespace is inherited, except for a namespace that every cluster has, where an entry must not set it", () => {
  const own = { namespace: "b", createNamespace: "false" };
  const serviceAccounts = [{ namespace: "a" }, own, { namespace: "kube-system" }, {}];
  const found = accounts({ createNamespace: "true", serviceAccounts });
  assert.equal(found.map(({ createNamespace }) => createNamespace).join(), "true,false,false,false");
  for (const namespace of ["default", "kube-system", "kube-public", "kube-node-lease", undefined]) {
    const [setting, , fix] = rejected(entry({ namespace, createNamespace: true }));
    assert.deepEqual([setting, fix], ["serviceAccounts[0].createNamespace = true", "set false"]);
  }
  assert.equal(rejected({ createNamespace: "true" })[0], "createNamespace = true");
});

test("an entry without a role inherits no policies for it, and must not set any", () => {
  const [account] = accounts({ rolePolicyArns: [POLICY], serviceAccounts: [{ createRole: false }] });
  assert.deepEqual(account?.rolePolicyArns, []);
  const [setting, , fix] = rejected({ createRole: "false", rolePolicyArns: [POLICY] });
  assert.deepEqual([setting, fix], ["createRole = false", "set true"]);
});

test("a conflict is fixed in the entry that causes it: the stack's value is right for the other entries", () => {
  for (const [stack, entry, key, fix] of [
    [{}, { name: "default" }, "createServiceAccount = true", "set false"],
    [{ createNamespace: true }, { namespace: "ci", ...EXISTING }, "createNamespace = true", "set false"],
    [{ createRole: false }, { rolePolicyArns: [POLICY] }, "createRole = false", "set true"],
    [{}, { tokenExpirationSeconds: 7201 }, "tokenExpirationSeconds = 7201", "set SECONDS"],
  ] satisfies [Given, Given, string, string][]) {
    const problem = rejected({ ...stack, serviceAccounts: [{ namespace: "x" }, entry] });
    assert.deepEqual([problem[0], problem[2]], [`serviceAccounts[1].${key}`, fix]);
  }
});

test("a problem that several entries inherit is reported once, where it is", () => {
  const serviceAccounts = [{ name: "a" }, { name: "b" }];
  assert.deepEqual(rejected({ tokenExpirationSeconds: "7201", serviceAccounts }), [
    "tokenExpirationSeconds = 7201",
    "must be at most maxExpirationSeconds, which is 7200",
    "set SECONDS",
  ]);
  assert.equal(rejected({ userLogin: "", serviceAccounts })[0], "userLogin");
});

test("rejects the same service account twice, also by inherited names", () => {
  const serviceAccounts = [{ namespace: "ci", name: "a" }, { name: "a" }, { name: "b" }, { namespace: "ci" }];
  assert.deepEqual(rejected({ serviceAccountName: "a", serviceAccounts }), [
    "serviceAccounts[3].name",
    "service account ci/a is configured by serviceAccounts[0] already",
    "set NAME",
  ]);
});

test("accepts 40 service accounts and no more", () => {
  const entries = Array.from({ length: 41 }, (_, index) => ({ name: `a${index}` }));
  assert.equal(accounts({ serviceAccounts: entries.slice(1) }).length, 40);
  const [setting, reason, fix] = rejected({ serviceAccounts: entries });
  assert.deepEqual([setting, fix], ["serviceAccounts[40]", "rm"]);
  assert.match(reason, /at most 40/);
});

test("rejects an unknown setting and suggests the closest one", () => {
  for (const [given, path, expected] of [
    [{ clusterNmae: "x" }, "clusterNmae", 'did you mean "clusterName"?'],
    [{ name: "x" }, "name", 'did you mean "serviceAccountName"?'],
    [{ toString: "x" }, "toString", "unknown setting"],
    [entry({ teamNmae: "x" }), "serviceAccounts[0].teamNmae", 'did you mean "teamName"?'],
    [entry({ serviceAccountName: "x" }), "serviceAccounts[0].serviceAccountName", 'did you mean "name"?'],
    [entry({ toString: "x" }), "serviceAccounts[0].toString", "unknown setting"],
    [entry({ maxExpirationSeconds: "x" }), "serviceAccounts[0].maxExpirationSeconds", "the whole stack"],
  ] satisfies [Given, string, string][]) {
    const [setting, reason, fix] = rejected(given);
    assert.deepEqual([setting, fix], [`${path} = "x"`, "rm"]);
    assert.ok(reason.includes(expected), reason);
  }
});

test("rejects a number or a boolean where a string is expected, and never converts it", () => {
  for (const value of [511, 0, true, false]) {
    const reason = `must be a string, but YAML reads it as a ${typeof value}`;
    for (const [own, key, placeholder] of [
      [{ namespace: value }, "namespace", "NAMESPACE"],
      [{ name: value }, "name", "NAME"],
      [{ tokenType: "team", teamName: value }, "teamName", "TEAM"],
      [{ command: ["sleep", value] }, "command[1]", "pulumi"],
    ] satisfies [Given, string, string][]) {
      const expected = [`serviceAccounts[0].${key} = ${value}`, reason, `set --type string ${placeholder}`];
      assert.deepEqual(rejected(entry(own)), expected);
    }
  }
  assert.equal(rejected({ policyRules: { sub: 7 } })[2], "set --type string 'runner-*'");
});

test("reports one problem for each encrypted key, and prints none of its values", () => {
  const entries = [{ name: "S3CRET", bad: "s3cret" }];
  const secrets = { teamName: "s3cret", thumbprints: ["s3cret"], "c++": "s3cret", serviceAccounts: entries };
  const own = engineConfig({ ...secrets, clusterName: "s3cret", userLogin: "", image: "x" });
  const config = { ...own, "other:teamName": "s3cret" };
  const keys = [...Object.keys(secrets), "clusterName"];
  const secretKeys = [...keys.map((key) => `project:${key}`), "other:teamName"];
  const { problems = [] } = parseConfig({ ...RAW, config, secretKeys });
  const settings = problems.map(({ setting }) => setting);
  assert.deepEqual(settings, ['image = "x"', ...keys]);
  assert.doesNotMatch(JSON.stringify(problems), /s3cret/i);
  const fixes = problems.map(({ fix }) => fix);
  assert.ok(fixes.includes("pulumi config set --plaintext teamName VALUE"));
  assert.ok(fixes.includes("pulumi config set --plaintext --path 'serviceAccounts[INDEX].KEY' VALUE"));
});

test("reports six mistakes in three entries at once, each with its path and the command that fixes it", () => {
  const serviceAccounts = [
    { namespace: "CI", tokenType: "team" },
    { name: 7, commnad: ["true"] },
    { name: "default", tokenExpirationSeconds: "2h" },
  ];
  const { problems = [] } = parse({ serviceAccounts });
  const fixes = problems.map(({ setting, fix }) => `${setting}: ${fix.replace("pulumi config ", "")}`);
  assert.deepEqual(fixes.sort(), [
    "serviceAccounts[0].namespace = \"CI\": set --path 'serviceAccounts[0].namespace' NAMESPACE",
    "serviceAccounts[0].teamName: set --path 'serviceAccounts[0].teamName' TEAM",
    "serviceAccounts[1].commnad = [\"true\"]: rm --path 'serviceAccounts[1].commnad'",
    "serviceAccounts[1].name = 7: set --type string --path 'serviceAccounts[1].name' NAME",
    "serviceAccounts[2].createServiceAccount = true: set --path 'serviceAccounts[2].createServiceAccount' false",
    "serviceAccounts[2].tokenExpirationSeconds = \"2h\": set --path 'serviceAccounts[2].tokenExpirationSeconds' SECONDS",
  ]);
});

test("the role, the profile, and the region of the AWS provider reach the program", () => {
  const roleArn = "arn:aws:iam::123456789012:role/deploy";
  const aws = { "aws:region": "eu-west-1", "aws:profile": "dev", "gcp:zone": "a" };
  const config = accepted({ ...aws, "aws:assumeRoles": [{ roleArn, sessionName: "ci" }] });
  assert.deepEqual([config.awsRegion, config.awsProfile, config.awsRoleArn], ["eu-west-1", "dev", roleArn]);
});

test("rejects AWS credentials that would not reach the cluster, without printing them", () => {
  for (const [key, value, setting] of [
    ["assumeRoles", [{ roleArn: "a" }, { roleArn: "b" }], "assumeRoles[1]"],
    ["assumeRoles", [{ roleArn: "a", externalId: "x" }], "assumeRoles[0].externalId"],
    ["assumeRoles", "a", "assumeRoles"],
    ["assumeRoles", [null], "assumeRoles"],
    ["accessKey", "AKIA", "accessKey"],
    ["secretKey", "s3cret", "secretKey"],
    ["token", "s3cret", "token"],
    ["assumeRoleWithWebIdentity", { roleArn: "a" }, "assumeRoleWithWebIdentity"],
  ] satisfies [string, unknown, string][]) {
    const problem = rejected({ [`aws:${key}`]: value });
    assert.deepEqual([problem[0], problem[2]], [`aws:${setting}`, "rm"]);
  }
});

// Each of these values is rejected, for the reason that follows.
const LONG = "a".repeat(64);
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
      assert.match(problem[2], /^set \S+$/);
    }
  });
}

test("accepts an address of Pulumi Cloud without TLS for a loopback host, an image by digest, and every partition", () => {
  for (const [key, value] of [
    ["pulumiApiUrl", "http://127.8.9.1:81"],
    ["pulumiApiUrl", "http://localhost:3000"],
    ["pulumiApiUrl", "http://[::1]:3000"],
    ["pulumiApiUrl", "https://a.example:8443"],
    ["image", `registry.example:5000/base@sha256:${SHA256}`],
    ["permissionsBoundaryArn", "arn:aws-us-gov:iam::123456789012:policy/path/a"],
    ["rolePath", "/pulumi/ci/"],
  ] satisfies [string, string][]) {
    const config: Given = { ...accepted({ [key]: value }) };
    assert.equal(config[key], value);
  }
});

test("rejects a list or an object by the place of its invalid element", () => {
  const arn = "arn:aws:iam::ACCOUNT:policy/NAME";
  const claim = `["\\"kubernetes.io\\".pod.name"]`;
  for (const [key, value, path, fix] of [
    ["rolePolicyArns", [POLICY, "x"], "rolePolicyArns[1]", `set ${arn}`],
    ["rolePolicyArns", [POLICY, POLICY], "rolePolicyArns", `set [0] ${arn}`],
    ["rolePolicyArns", "x", "rolePolicyArns", `set [0] ${arn}`],
    ["thumbprints", [SHA256.toUpperCase()], "thumbprints[0]", "set SHA256"],
    ["thumbprints", [SHA256.slice(1)], "thumbprints[0]", "set SHA256"],
    ["command", "pulumi whoami", "command", "set [0] pulumi"],
    ["command", [], "command", "set [0] pulumi"],
    ["command", ["", "a"], "command", "set [0] pulumi"],
    ["command", ["a\u0000"], "command[0]", "set pulumi"],
    ["jobPodSpec", [], "jobPodSpec", "set .priorityClassName NAME"],
    ["jobPodSpec", { serviceAccountName: "x" }, "jobPodSpec", "set .priorityClassName NAME"],
    ["jobPodSpec", { containers: [{ image: "x" }] }, "jobPodSpec", "set .priorityClassName NAME"],
    ["serviceAccounts", "a", "serviceAccounts", "rm"],
    ["serviceAccounts", "{}", "serviceAccounts", "rm"],
    ["serviceAccounts", [{ name: "a" }, "b"], "serviceAccounts[1]", "rm"],
    ["policyRules", [], "policyRules", `set ${claim} 'runner-*'`],
    ["policyRules", { sub: "*.?" }, "policyRules.sub", "set 'runner-*'"],
    ["policyRules", { sub: "" }, "policyRules.sub", "set 'runner-*'"],
    ["policyRules", { "it's": "*" }, `policyRules["it's"]`, "set 'runner-*'"],
  ] satisfies [string, unknown, string, string][]) {
    const problem = rejected({ [key]: value });
    assert.deepEqual([problem[0].replace(/ = .*/, ""), problem[2]], [path, fix]);
  }
});

test("rejects a Job for an existing service account in a namespace that the stack creates", () => {
  const apps = { namespace: "apps", tokenType: "personal", userLogin: "ada" };
  const serviceAccounts = [
    { ...apps, name: "a", createNamespace: true },
    { ...apps, name: "b", createServiceAccount: false },
  ];
  const [setting, , fix] = rejected({ serviceAccounts });
  assert.deepEqual([setting, fix], ["serviceAccounts[1].runJob = true", "set false"]);
});

test("policyRules must not replace a built-in rule, in any spelling, and must be paths of claims", () => {
  const paths = ['"kubernetes.io".namespace', '"kubernetes.io".serviceaccount.name', "aud"];
  const quoted = ['"kubernetes.io"."namespace"', '"kubernetes.io"."serviceaccount".name', '"aud"'];
  for (const claim of [...paths, ...quoted]) {
    const [, reason, fix] = rejected({ policyRules: { [claim]: "a" } });
    assert.match(reason, /must not replace the built-in rule/);
    assert.equal(fix, "rm");
  }
  for (const claim of ["", '"sub', "a..b", "a b", "kubernetes.io.pod.name"]) {
    assert.match(rejected({ policyRules: { [claim]: "a" } })[1], /must be a claim path/);
  }
  const [account] = accounts({ policyRules: '{"constructor":"a"}' });
  assert.deepEqual(Object.keys(account?.policyRules ?? {}), ["constructor"]);
});

test("each token type requires its own settings and rejects those of the others", () => {
  const own: Record<string, Given> = {
    personal: { userLogin: "me" },
    organization: { organizationAdmin: "true" },
    team: { teamName: "ops" },
    runner: { runnerId: "1", runnerName: "pool" },
  };
  for (const [tokenType, settings] of Object.entries(own)) {
    const { problems: missing = [] } = parse({ userLogin: undefined, tokenType });
    const required = Object.keys(settings).filter((key) => key !== "organizationAdmin");
    assert.equal(missing.map(({ setting }) => setting).join(), required.join());
    for (const foreign of Object.values(own).filter((it) => it !== settings)) {
      const { problems = [] } = parse({ userLogin: undefined, tokenType, ...settings, ...foreign });
      const fixes = Object.keys(foreign).map((key) => `pulumi config rm ${key}`);
      assert.equal(problems.map(({ fix }) => fix).join(), fixes.join());
      assert.equal(problems[0]?.reason, `not valid with tokenType "${tokenType}"`);
    }
  }
});

test("rejects team names that the allow policy would read as patterns", () => {
  for (const teamName of ["ops-*", "op?", "ops.eu"]) {
    assert.match(rejected({ ...TEAM, teamName })[1], /wildcards that match other teams too/);
  }
});

test("rejects createOidcProvider for a new cluster", () => {
  const [setting, , fix] = rejected({ createCluster: "true", createOidcProvider: "true" });
  assert.deepEqual([setting, fix], ["createOidcProvider = true", "set false"]);
});

test("takes the configured organization, or the stack's, and requires one if there is neither", () => {
  assert.equal(accepted({ organization: "other" }).organization, "other");
  const { problems } = parseConfig({ ...RAW, config: engineConfig({}), organization: undefined });
  assert.equal(problems?.[0]?.reason, "required, because the stack has no organization");
});

const RAW = { secretKeys: [], project: "project", organization: "acme" };

/** Returns the configuration as the engine passes it: strings, and JSON for lists and objects. */
function engineConfig(given: Given): Record<string, string> {
  const entries = Object.entries({ ...REQUIRED, ...given }).filter(([, value]) => value !== undefined);
  const qualified = entries.map(([key, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    return [key.includes(":") ? key : `project:${key}`, value === null ? "" : text];
  });
  return Object.fromEntries(qualified);
}

function entry(own: Given): Given {
  return { serviceAccounts: [own] };
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
  const [problem, ...others] = parse(given).problems ?? [];
  assert.deepEqual(others, []);
  const { setting, reason, fix } = problem ?? assert.fail("the configuration is valid");
  const path = setting.replace(/ = .*/s, "").replaceAll("'", "'\\''");
  assert.ok(fix.startsWith("pulumi config ") && fix.includes(path), fix);
  const [before = "", after = ""] = fix.slice("pulumi config ".length).split(path);
  return [setting, reason, (before.replace("--path '", "") + after.replace("'", "").trimStart()).trim()];
}
