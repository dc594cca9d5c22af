// The settings: what counts as given, each refusal with its remedy, and what is made of the rest.

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Problem, parseSettings } from "../config";

const REQUIRED = { clusterName: "my-cluster", userLogin: "my-login" };
const SHA256 = "ab".repeat(32);

test("a cluster and a login are all that has to be set; the rest has defaults", () => {
  assert.deepEqual(accepted({}), {
    clusterName: "my-cluster",
    createCluster: false,
    createOidcProvider: false,
    namespace: "default",
    createNamespace: false,
    serviceAccountName: "pulumi-service-account",
    rolePolicyArns: [],
    organization: "acme",
    issuerName: "eks-my-cluster",
    maxExpirationSeconds: 7200,
    thumbprints: [],
    policyRules: {},
    tokenExpirationSeconds: 7200,
    tokenAudience: "sts.amazonaws.com",
    audienceRule: false,
    image: "pulumi/pulumi-base:3.270.0",
    command: ["pulumi", "whoami"],
    pulumiApiUrl: "https://api.pulumi.com",
    token: { tokenType: "personal", userLogin: "my-login" },
    tokenScope: "user:my-login",
    awsRegion: undefined,
    awsProfile: undefined,
  });
});

test("an empty text counts as not set", () => {
  const empty = { namespace: "", issuerName: "", audienceRule: "", permissionsBoundaryArn: "", teamName: "" };
  assert.deepEqual(accepted(empty), accepted({}));
  assert.match(refused({ clusterName: "" }).reason, /is not set/);
});

test("every setting reaches the program as plain typed data", () => {
  const policies = ["arn:aws:iam::123456789012:policy/a", "arn:aws:iam::aws:policy/service-role/b"];
  const settings = accepted({
    createCluster: "true",
    createNamespace: "true",
    namespace: "ci",
    serviceAccountName: "runner-1",
    rolePolicyArns: JSON.stringify(policies),
    permissionsBoundaryArn: "arn:aws-us-gov:iam::123456789012:policy/edge",
    organization: "my-org",
    issuerName: "my issuer",
    maxExpirationSeconds: "3600",
    thumbprints: JSON.stringify([SHA256]),
    policyRules: '{"\\"kubernetes.io\\".pod.name":"runner-*"}',
    tokenExpirationSeconds: "600",
    audienceRule: "true",
    image: `registry.example:5000/pulumi@sha256:${SHA256}`,
    command: '["bash","-c","echo $(HOME) \\"$$\\""]',
    pulumiApiUrl: "https://pulumi.example:8443/",
  });
  assert.equal(settings.createCluster, true);
  assert.equal(settings.createNamespace, true);
  assert.equal(settings.namespace, "ci");
  assert.equal(settings.serviceAccountName, "runner-1");
  assert.deepEqual(settings.rolePolicyArns, policies);
  assert.equal(settings.permissionsBoundaryArn, "arn:aws-us-gov:iam::123456789012:policy/edge");
  assert.equal(settings.organization, "my-org");
  assert.equal(settings.issuerName, "my issuer");
  assert.equal(settings.maxExpirationSeconds, 3600);
  assert.deepEqual(settings.thumbprints, [SHA256]);
  assert.deepEqual(settings.policyRules, { '"kubernetes.io".pod.name': "runner-*" });
  assert.equal(settings.tokenExpirationSeconds, 600);
  assert.equal(settings.audienceRule, true);
  assert.equal(settings.image, `registry.example:5000/pulumi@sha256:${SHA256}`);
  assert.deepEqual(settings.command, ["bash", "-c", 'echo $(HOME) "$$"']);
  assert.equal(settings.pulumiApiUrl, "https://pulumi.example:8443");
});

test("createOidcProvider is taken for an existing cluster", () => {
  assert.equal(accepted({ createOidcProvider: "true" }).createOidcProvider, true);
});

test("the AWS provider's region and profile are read, other providers' settings are none of the project's", () => {
  const config = { ...qualified(REQUIRED), "aws:region": "eu-west-1", "aws:profile": "dev", "gcp:zone": "a" };
  const { settings } = parseSettings(config, "project", "acme");
  assert.equal(settings?.awsRegion, "eu-west-1");
  assert.equal(settings?.awsProfile, "dev");
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
] satisfies [Record<string, string>, object, string][]) {
  test(`${JSON.stringify(given)} asks for scope "${scope}"`, () => {
    // As the engine hands it over: Pulumi.yaml's default of organizationAdmin reaches every token type.
    const config = { clusterName: "my-cluster", organizationAdmin: "false", ...given };
    const { settings } = parseSettings(qualified(config), "project", "acme");
    assert.deepEqual(settings?.token, token);
    assert.equal(settings?.tokenScope, scope);
  });
}

test("an audience of its own brings the rule for it, unless audienceRule says no", () => {
  const tokenAudience = "urn:pulumi:org:acme";
  assert.equal(accepted({ tokenAudience }).audienceRule, true);
  assert.equal(accepted({ tokenAudience, audienceRule: "false" }).audienceRule, false);
});

test("the stack's organization is taken where no setting names one", () => {
  assert.equal(accepted({ organization: "" }).organization, "acme");
  assert.equal(accepted({ organization: "other" }).organization, "other");
});

test("without any organization the remedy is to name one", () => {
  const { problems = [] } = parseSettings(qualified(REQUIRED), "project", undefined);
  assert.deepEqual(problems, [
    {
      setting: "organization",
      reason: "is not set, and the stack is of no organization",
      remedy: "pulumi config set organization ORGANIZATION",
    },
  ]);
});

// One value in each row is refused, for the reason that follows.
const LONG = "a".repeat(64);
for (const [key, values, reason] of [
  ["clusterName", ["-a", "a b", "a/b", "a".repeat(101), "a\n"], /must be the name of an EKS cluster/],
  ["createCluster", ["yes", "True", "1"], /must be true or false/],
  ["createOidcProvider", ["no"], /must be true or false/],
  ["createNamespace", ["no"], /must be true or false/],
  ["audienceRule", ["no"], /must be true or false/],
  ["namespace", ["A", "a.b", "a_b", "-a", "a-", "*", LONG, "a\n", "\u0430"], /at most 63 lower-case/],
  [
    "serviceAccountName",
    ["A", "a.b", "a*", "a?", "-a", "a-", LONG, "a:b", "\u0430"],
    /at most 63 lower-case/,
  ],
  ["organization", ["a b", "a/b", "-a", "*", "a."], /must be the name of a Pulumi organization/],
  ["issuerName", [" a", "a ", " "], /must not begin or end with a space/],
  ["userLogin", ["a b", "a*", "user:a", "@a"], /must be the login of a Pulumi user/],
  [
    "image",
    ["pulumi/pulumi-base", "pulumi/pulumi-base:latest", "registry:5000/pulumi"],
    /version or a digest/,
  ],
  ["image", [":1", "a b:1", "a@sha256:12", "A:1"], /must be the name of an image/],
  ["tokenAudience", ["a b", "*", "sts?", ".", "..."], /without spaces and the allow policy's wildcards/],
  [
    "permissionsBoundaryArn",
    ["edge", "arn:aws:iam::1:policy/a", "arn:aws:iam::123456789012:role/a", "arn:aws:iam::aws:policy/"],
    /must be the ARN of an IAM policy/,
  ],
  [
    "tokenExpirationSeconds",
    ["0", "-1", "1.5", "1e3", "ten", "0x10", "007", " 5", "9999999999"],
    /must be a whole number of seconds, at least 1/,
  ],
  [
    "maxExpirationSeconds",
    ["0", "-1", "1.5", "1e5", "ten", "Infinity", "NaN"],
    /must be a whole number of seconds, at least 1/,
  ],
  [
    "pulumiApiUrl",
    [
      "api.pulumi.com",
      "ftp://api.pulumi.com",
      "http://api.pulumi.com",
      "http://127.0.0.1.example.com",
      "http://127.0.0.1@example.com",
      "http://localhost.example.com",
      "http://localhost@example.com",
      "https://user:secret@example.com",
      "https://example.com/api",
      "https://example.com?a=b",
      "https://example.com#a",
      "file:///state",
    ],
    /must be https:\/\/HOST, or http:\/\/HOST on a loopback host/,
  ],
] satisfies [string, string[], RegExp][]) {
  for (const value of values) {
    test(`${key} = ${JSON.stringify(value)} is refused`, () => {
      const problem = refused({ [key]: value });
      assert.equal(problem.setting, `${key} = ${JSON.stringify(value)}`);
      assert.match(problem.reason, reason);
      assert.match(problem.remedy, new RegExp(`^pulumi config set ${key} \\S+$`));
    });
  }
}

for (const url of [
  "http://127.0.0.1:8080",
  "http://127.8.9.1",
  "http://localhost:3000",
  "http://[::1]:3000",
]) {
  test(`pulumiApiUrl = ${url} is taken: a loopback host needs no TLS`, () => {
    assert.equal(accepted({ pulumiApiUrl: url }).pulumiApiUrl, url);
  });
}

for (const [key, value, problem] of [
  ["rolePolicyArns", '["arn:aws:iam::aws:policy/a","x"]', 'rolePolicyArns[1] = "x"'],
  ["thumbprints", `["${SHA256.toUpperCase()}"]`, `thumbprints[0] = "${SHA256.toUpperCase()}"`],
  ["thumbprints", `["${SHA256.slice(1)}"]`, `thumbprints[0] = "${SHA256.slice(1)}"`],
  ["thumbprints", '["ab:ab"]', 'thumbprints[0] = "ab:ab"'],
  ["thumbprints", "[7]", "thumbprints[0] = 7"],
  ["command", '["a",7]', "command[1] = 7"],
  ["command", '["a\\u0000"]', 'command[0] = "a\\u0000"'],
] satisfies [string, string, string][]) {
  test(`an element of a list is refused by its place: ${problem}`, () => {
    const { setting, remedy } = refused({ [key]: value });
    assert.equal(setting, problem);
    const place = setting.slice(0, setting.indexOf(" "));
    assert.ok(remedy.startsWith(`pulumi config set --type string --path '${place}' `), remedy);
  });
}

for (const [key, value] of [
  ["rolePolicyArns", "arn:aws:iam::aws:policy/a"],
  ["rolePolicyArns", "{}"],
  ["thumbprints", SHA256],
  ["thumbprints", '"a"'],
  ["command", "pulumi whoami"],
  ["command", "null"],
] satisfies [string, string][]) {
  test(`${key} = ${value} is no list, and the remedy sets its first element`, () => {
    const { reason, remedy } = refused({ [key]: value });
    assert.match(reason, /must be a list/);
    assert.match(remedy, new RegExp(`^pulumi config set --type string --path '${key}\\[0\\]' `));
  });
}

test("a command must name a program", () => {
  assert.match(refused({ command: "[]" }).reason, /must name a program/);
  assert.match(refused({ command: '["","a"]' }).reason, /must name a program/);
});

for (const [rule, setting] of [
  ['"kubernetes.io".namespace', "namespace"],
  ['"kubernetes.io".serviceaccount.name', "serviceAccountName"],
  ["aud", "audienceRule"],
] satisfies [string, string][]) {
  test(`policyRules may not replace the built-in rule ${rule}`, () => {
    const problem = refused({ policyRules: JSON.stringify({ [rule]: "a" }) });
    assert.match(problem.reason, new RegExp(`may not replace the built-in rule, which ${setting} sets`));
    assert.equal(problem.remedy, `pulumi config rm --path 'policyRules[${JSON.stringify(rule)}]'`);
  });
}

for (const pattern of ["*", "?", ".", "*.?*", ""]) {
  test(`policyRules refuse the pattern "${pattern}", which has no literal part`, () => {
    const problem = refused({ policyRules: JSON.stringify({ sub: pattern }) });
    assert.equal(problem.setting, `policyRules["sub"] = "${pattern}"`);
    assert.match(problem.reason, /must hold a literal part/);
    assert.match(problem.remedy, /^pulumi config set --type string --path 'policyRules\["sub"\]' /);
  });
}

for (const claim of ['"aud"', '"kubernetes.io"."namespace"', '"kubernetes.io".serviceaccount."name"']) {
  test(`policyRules may not replace a built-in rule in another spelling, as ${claim}`, () => {
    assert.match(
      refused({ policyRules: JSON.stringify({ [claim]: "x" }) }).reason,
      /may not replace the built-in rule/,
    );
  });
}

for (const claim of ["", '"sub', "a..b", "a b", "kubernetes.io.pod.name"]) {
  test(`policyRules refuse ${JSON.stringify(claim)}, which is no path of a claim`, () => {
    const problem = refused({ policyRules: JSON.stringify({ [claim]: "runner-*" }) });
    assert.match(problem.reason, /is no path of a claim/);
    assert.match(problem.remedy, /^pulumi config rm --path 'policyRules\[/);
  });
}

test("policyRules are an object of texts", () => {
  assert.match(refused({ policyRules: "[]" }).reason, /must be an object/);
  assert.match(refused({ policyRules: "runner-*" }).reason, /must be an object/);
  assert.match(refused({ policyRules: '{"sub":7}' }).reason, /must be a text/);
  assert.match(refused({ policyRules: '{"sub":{"a":"b"}}' }).reason, /must be a text/);
});

for (const [given, missing] of [
  [{ tokenType: "personal", userLogin: "" }, ["userLogin"]],
  [{ tokenType: "team" }, ["teamName"]],
  [{ tokenType: "runner" }, ["runnerId", "runnerName"]],
  [{ tokenType: "runner", runnerId: "1" }, ["runnerName"]],
] satisfies [Record<string, string>, string[]][]) {
  test(`${JSON.stringify(given)} lacks ${missing.join(" and ")}`, () => {
    const config = { clusterName: "my-cluster", ...given };
    const { problems = [] } = parseSettings(qualified(config), "project", "acme");
    assert.deepEqual(
      problems.map(({ setting }) => setting),
      missing,
    );
    for (const { setting, reason, remedy } of problems) {
      assert.equal(reason, `is not set; tokenType ${given.tokenType} needs it`);
      assert.match(remedy, new RegExp(`^pulumi config set ${setting} [A-Z]+$`));
    }
  });
}

const OF_TYPE = {
  personal: { userLogin: "me" },
  organization: { organizationAdmin: "true" },
  team: { teamName: "ops" },
  runner: { runnerId: "1", runnerName: "pool" },
};
for (const [tokenType, own] of Object.entries(OF_TYPE)) {
  for (const [other, foreign] of Object.entries(OF_TYPE)) {
    if (tokenType === other) continue;
    const keys = Object.keys(foreign);
    test(`tokenType ${tokenType} is refused together with ${keys.join(" and ")}`, () => {
      const config = { clusterName: "my-cluster", tokenType, ...own, ...foreign };
      const { problems = [] } = parseSettings(qualified(config), "project", "acme");
      assert.deepEqual(
        problems.map(({ reason, remedy }) => [reason, remedy]),
        keys.map((key) => [`does not go with tokenType ${tokenType}`, `pulumi config rm ${key}`]),
      );
    });
  }
}

test("an unknown token type is refused", () => {
  const problem = refused({ tokenType: "admin" });
  assert.equal(problem.setting, 'tokenType = "admin"');
  assert.equal(problem.reason, "must be personal, organization, team or runner");
  assert.equal(problem.remedy, "pulumi config set tokenType TYPE");
});

for (const teamName of ["ops-*", "op?", "ops.eu"]) {
  test(`teamName = ${teamName} is refused: the allow policy would let other teams in`, () => {
    const { problems = [] } = parseSettings(
      qualified({ clusterName: "my-cluster", tokenType: "team", teamName }),
      "project",
      "acme",
    );
    assert.match(String(problems[0]?.reason), /reads them as wildcards/);
  });
}

test("an expiration beyond the maximum is refused with the maximum as the remedy", () => {
  assert.deepEqual(refused({ tokenExpirationSeconds: "7201" }), {
    setting: "tokenExpirationSeconds = 7201",
    reason: "must be at most maxExpirationSeconds, which is 7200",
    remedy: "pulumi config set tokenExpirationSeconds 7200",
  });
  assert.match(refused({ maxExpirationSeconds: "600" }).reason, /which is 600/);
  assert.equal(
    accepted({ maxExpirationSeconds: "9000", tokenExpirationSeconds: "9000" }).tokenExpirationSeconds,
    9000,
  );
});

test("createCluster is refused together with createOidcProvider", () => {
  const problem = refused({ createCluster: "true", createOidcProvider: "true" });
  assert.equal(problem.setting, "createOidcProvider = true");
  assert.equal(problem.remedy, "pulumi config rm createOidcProvider");
});

test("a namespace that every cluster has cannot be created", () => {
  const { setting, remedy } = refused({ createNamespace: "true" });
  assert.equal(setting, "createNamespace = true");
  assert.equal(remedy, "pulumi config set namespace NAMESPACE");
});

test("a policy that is attached twice is refused", () => {
  const arn = "arn:aws:iam::aws:policy/ReadOnlyAccess";
  assert.match(
    refused({ rolePolicyArns: JSON.stringify([arn, arn]) }).reason,
    /must not name a policy twice/,
  );
});

test("an unknown key is refused with the list of the valid ones", () => {
  const problem = refused({ clusterNmae: "typo" });
  assert.equal(problem.setting, 'clusterNmae = "typo"');
  assert.match(problem.reason, /is no setting of this project, which has clusterName, .*organizationAdmin$/);
  assert.equal(problem.remedy, "pulumi config rm clusterNmae");
});

test("a key that every object of JavaScript has is as unknown as any other", () => {
  assert.match(refused({ toString: "a" }).reason, /is no setting of this project/);
  const { policyRules } = accepted({ policyRules: '{"constructor":"a"}' });
  assert.equal(policyRules.constructor, "a");
});

test("all problems are listed at once, each with its key, value, reason and remedy", () => {
  const { problems = [] } = parseSettings(
    qualified({
      namespace: "Default",
      tokenExpirationSeconds: "0",
      thumbprints: '["ab"]',
      tokenType: "team",
      userLogin: "me",
      typo: "1",
    }),
    "project",
    undefined,
  );
  assert.deepEqual(problems.map(({ setting }) => setting).sort(), [
    "clusterName",
    'namespace = "Default"',
    "organization",
    "teamName",
    'thumbprints[0] = "ab"',
    'tokenExpirationSeconds = "0"',
    'typo = "1"',
    'userLogin = "me"',
  ]);
  for (const { reason, remedy } of problems) {
    assert.notEqual(reason, "");
    assert.match(remedy, /^pulumi config (set|rm) /);
  }
});

/** The settings that come of these on top of the required ones. */
function accepted(given: Record<string, string>) {
  const { settings, problems } = parseSettings(qualified({ ...REQUIRED, ...given }), "project", "acme");
  if (!settings) return assert.fail(JSON.stringify(problems));
  return settings;
}

/** The one problem that these have on top of the required ones. */
function refused(given: Record<string, string>): Problem {
  const { problems = [] } = parseSettings(qualified({ ...REQUIRED, ...given }), "project", "acme");
  const [problem, ...others] = problems;
  assert.deepEqual(others, []);
  return problem ?? assert.fail("the settings were accepted");
}

function qualified(given: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [`project:${key}`, value]));
}
