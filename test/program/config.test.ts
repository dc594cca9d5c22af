// The configuration: what the program receives, and every problem with its path, its value, and its reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { parseConfig, templateSettings } from "../../config";
import { type RawConfig, readRawConfig } from "../../settings/raw";
import { messageOf } from "../../settings/validation";
import { rawConfigOf } from "../support/rawSettings";

const SHA256 = "ab".repeat(32);
const POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

/** The least that a stack and an entry set. */
const REQUIRED = { clusterName: "my-cluster", userLogin: "alice" };
const ENTRY = { namespace: "ci", name: "deployer", tokenType: "personal", userLogin: "alice" };

/** The least that an entry of each token type sets about its token. */
const OWNERS: Record<string, Given> = {
  personal: { userLogin: "alice" },
  organization: {},
  team: { teamName: "platform" },
  runner: { runnerId: "pool-1", runnerName: "builders" },
};

type Given = Record<string, unknown>;

test("names the template's values in a stack dev, and in no other", () => {
  const kept = { clusterName: "sample-cluster", userLogin: "sample-login", "q:userLogin": "sample-login" };
  const named = (settings: object, stack: string) => templateSettings(rawConfigOf(settings), stack);
  assert.deepEqual(named(kept, "dev"), ["clusterName (sample-cluster)", "userLogin (sample-login)"]);
  assert.deepEqual(named(kept, "prod"), []);
  assert.deepEqual(named({ ...kept, clusterName: "own" }, "dev"), ["userLogin (sample-login)"]);
});

test("a cluster and a login are enough: the stack has one service account with a personal token", () => {
  assert.deepEqual(accepted(), {
    cluster: {
      clusterName: "my-cluster",
      createCluster: false,
      createOidcProvider: false,
      aws: { region: undefined, profile: undefined, "role-arn": undefined },
    },
    access: {
      organization: "acme",
      issuerName: "eks-my-cluster",
      maxExpirationSeconds: 7200,
      rolePath: "/",
      image: "pulumi/pulumi-base:3.274.1",
      jobPodSpec: {},
      pulumiApiUrl: "https://api.pulumi.com",
      injectToken: false,
      createNamespaces: [],
      serviceAccounts: [
        {
          namespace: "default",
          name: "pulumi-service-account",
          tokenType: "personal",
          userLogin: "alice",
          tokenExpirationSeconds: 7200,
          tokenAudience: "urn:pulumi:org:acme",
          audienceRule: false,
          policyRules: {},
          createServiceAccount: true,
          awsRole: "irsa",
          rolePolicyArns: [],
          runJob: true,
          command: ["pulumi", "whoami"],
        },
      ],
    },
  });
});

test("an entry inherits nothing but the upper bound, and the organization in its audience", () => {
  const entries = [
    ENTRY,
    { ...ENTRY, name: "other", tokenType: "team", userLogin: undefined, teamName: "a" },
  ];
  const { serviceAccounts } = accepted({
    ...stackOf(...entries),
    organization: "b",
    maxExpirationSeconds: "600",
  }).access;
  const [first, second] = serviceAccounts;
  assert.deepEqual([first?.tokenExpirationSeconds, first?.tokenAudience], [600, "urn:pulumi:org:b"]);
  assert.deepEqual([second?.userLogin, second?.teamName], [undefined, "a"]);
});

test("a runner's Job runs only the exchange, since the CLI accepts no runner token", () => {
  const [account] = accepted(stackOf(entryOf("runner"))).access.serviceAccounts;
  assert.deepEqual(account?.command, ["true"]);
});

test("accepts every setting of an entry", () => {
  const entry = {
    ...entryOf("organization"),
    organizationAdmin: true,
    tokenExpirationSeconds: 900,
    tokenAudience: "https://api.pulumi.com",
    audienceRule: true,
    policyRules: { '"kubernetes.io".pod.name': "deployer-*" },
    createServiceAccount: false,
    awsRole: "pod-identity",
    rolePolicyArns: [POLICY],
    runJob: false,
    command: ["sh", "-c", "echo $(A)"],
  };
  assert.deepEqual(accepted(stackOf(entry)).access.serviceAccounts, [entry]);
});

test("accepts every setting of the stack, as the strings that the engine passes", () => {
  const settings = {
    createCluster: true,
    createOidcProvider: false,
    organization: "other",
    issuerName: "my issuer",
    maxExpirationSeconds: 9000,
    permissionsBoundaryArn: "arn:aws-us-gov:iam::123456789012:policy/path/a",
    rolePath: "/pulumi/ci/",
    image: `registry.example:5000/base@sha256:${SHA256}`,
    jobPodSpec: {
      nodeSelector: { a: "b" },
      containers: [{ name: "token-exchange", env: [] }],
      volumes: [{ name: "a" }],
    },
    pulumiApiUrl: "https://a.example:8443",
    createNamespaces: ["ci"],
    injectToken: true,
  };
  const { cluster, access } = accepted({ ...stackOf(ENTRY), ...settings });
  const { serviceAccounts, ...shared } = access;
  const { aws, clusterName, ...created } = cluster;
  assert.deepEqual({ ...created, ...shared }, settings);
});

test("null and an empty string count as not given, in the stack and in an entry", () => {
  const empty = { rolePolicyArns: null, audienceRule: "", teamName: null, tokenAudience: "" };
  assert.deepEqual(
    accepted({ issuerName: "", maxExpirationSeconds: "", serviceAccounts: "null" }),
    accepted(),
  );
  assert.deepEqual(accepted(withEntry({ ...empty })), accepted(stackOf(ENTRY)));
  assert.deepEqual(rejected({ clusterName: "" }), ["clusterName: required"]);
  assert.deepEqual(rejected(withEntry({ name: "" })), ["serviceAccounts[0].name: required"]);
});

test("the AWS provider's region, profile, and role are options of the AWS CLI", () => {
  const aws = {
    "aws:region": "eu-central-1",
    "aws:profile": "dev",
    "aws:assumeRoles": [{ roleArn: "arn:aws:iam::123456789012:role/a", sessionName: "ci" }],
  };
  const options = { region: "eu-central-1", profile: "dev", "role-arn": "arn:aws:iam::123456789012:role/a" };
  assert.deepEqual(accepted(aws).cluster.aws, options);
});

for (const [key, value] of Object.entries({
  "aws:assumeRoles": [{ roleArn: "a" }, { roleArn: "s3cret" }],
  "aws:assumeRoleWithWebIdentity": { roleArn: "s3cret" },
  "aws:accessKey": "s3cret",
  "aws:secretKey": "s3cret",
  "aws:token": "s3cret",
  "aws:sharedCredentialsFiles": ["s3cret"],
  "aws:sharedConfigFiles": ["s3cret"],
})) {
  test(`rejects ${key}, which aws eks get-token does not receive, and does not print it`, () => {
    const [problem = ""] = rejected({ [key]: value });
    assert.ok(problem.startsWith(`${key}: is not supported by \`aws eks get-token\``), problem);
    assert.doesNotMatch(problem, /s3cret/);
  });
}

test("rejects the external ID of a role, which aws eks get-token does not receive, and does not print it", () => {
  const [problem = ""] = rejected({ "aws:assumeRoles": [{ roleArn: "a", externalId: "s3cret" }] });
  assert.match(problem, /^aws:assumeRoles\[0\]\.externalId: is not supported/);
  assert.doesNotMatch(problem, /s3cret/);
});

for (const [key, advice] of [
  ["pulumiservice:accessToken", "run `pulumi login` or set PULUMI_ACCESS_TOKEN in the environment"],
  ["pulumiservice:apiUrl", "set pulumiApiUrl"],
] as const) {
  test(`rejects ${key}, which the program does not use, and does not print it`, () => {
    assert.deepEqual(rejected({ [key]: "s3cret" }), [`${key}: is not used: remove it, and ${advice}`]);
  });
}

test("accepts in a new cluster what it has, or what the stack creates in it", () => {
  const entries = [
    { ...ENTRY, namespace: "default" },
    { ...ENTRY, namespace: "default", name: "default", createServiceAccount: false },
    { ...ENTRY, namespace: "kube-system", name: "helm", createServiceAccount: false, runJob: false },
    { ...ENTRY, namespace: "ci" },
  ];
  accepted({ ...stackOf(...entries), createCluster: true, createNamespaces: ["ci"] });
});

const ADVICE = "quote it, or set it with --type string";
const REJECTED: Record<string, [Given, ...(string | RegExp)[]]> = {
  "an unknown setting of the stack": [
    { clusterNmae: "x" },
    'clusterNmae: unknown setting; did you mean "clusterName"?',
  ],
  "a setting that resembles no other": [{ zone: "x" }, "zone: unknown setting"],
  "a setting whose name is part of another": [
    { ...stackOf({ ...entryOf("team"), team: "payments", role: "a" }), name: "ci" },
    "name: is a setting of an entry of serviceAccounts",
    'serviceAccounts[0].team: unknown setting; did you mean "teamName"?',
    "serviceAccounts[0].role: unknown setting",
  ],
  "a setting of the stack in an entry": [
    withEntry({ maxExpirationSeconds: 900, clusterName: "a" }),
    "serviceAccounts[0].maxExpirationSeconds: is a setting of the stack, not of an entry",
    "serviceAccounts[0].clusterName: is a setting of the stack, not of an entry",
  ],
  "a setting of an entry in the stack": [
    { tokenType: "team" },
    "tokenType: is a setting of an entry of serviceAccounts",
  ],
  "the name of a method": [withEntry({ toString: "x" }), /^serviceAccounts\[0\]\.toString: unknown setting/],
  "a list that is a string": [
    { ...stackOf(), serviceAccounts: "a/b" },
    'serviceAccounts = "a/b": must be a list',
  ],
  "a list without entries": [stackOf(), "serviceAccounts: must not be empty"],
  "an entry that is not an object": [
    stackOf("a", []),
    'serviceAccounts[0] = "a": must be an object',
    /\[1\]: must be an o/,
  ],
  "0777 in an entry, which YAML reads as a number": [
    stackOf({ ...entryOf("team"), teamName: 511 }),
    `serviceAccounts[0].teamName = 511: must be a string, but YAML reads it as a number; ${ADVICE}`,
  ],
  "an element that was set without --path": [
    { "serviceAccounts[0].name": "x" },
    '"serviceAccounts[0].name": is a path: remove it, and set it with --path',
  ],
  "a setting of ours under another project's name": [
    { "eks-pulumi-oidc:issuerName": "a" },
    'eks-pulumi-oidc:issuerName: belongs to project "eks-pulumi-oidc", but this project is "project"',
  ],
  "no user and no entries": [
    { userLogin: undefined },
    'userLogin: required without serviceAccounts; both belong under "config:" in the stack file',
  ],
  "an invalid user without entries": [
    { userLogin: "a b" },
    'userLogin = "a b": must be the login of a Pulumi user',
  ],
  "a user beside entries": [
    { ...stackOf(ENTRY), userLogin: "bob" },
    'userLogin = "bob": is not valid with serviceAccounts. Move it into an entry. If the stack is deployed, keep its ' +
      "first service account as an entry, or it is deleted: namespace default, name pulumi-service-account, " +
      "tokenType personal",
  ],
  "createOidcProvider with createCluster": [
    { createCluster: true, createOidcProvider: true },
    "createOidcProvider = true: must be false with createCluster, which creates what its roles need",
  ],
  "an entry of a new cluster in a namespace that no one creates": [
    { ...withEntry({ namespace: "ci" }), createCluster: true },
    'serviceAccounts[0].namespace = "ci": must be in createNamespaces: the cluster that createCluster creates does not ' +
      "have it",
  ],
  "a Job of a new cluster for a service account that no one creates": [
    { ...withEntry({ namespace: "default", createServiceAccount: false }), createCluster: true },
    "serviceAccounts[0].runJob = true: must be false: the service account cannot exist before the stack creates its cluster",
  ],
  "policies without a role": [
    withEntry({ awsRole: "none", rolePolicyArns: [POLICY] }),
    "serviceAccounts[0].rolePolicyArns: requires an IAM role, but awsRole is none",
  ],
  "a policy that is listed twice": [
    withEntry({ rolePolicyArns: [POLICY, POLICY] }),
    `serviceAccounts[0].rolePolicyArns[1] = "${POLICY}": must not be listed twice`,
  ],
  "the creation of a service account that every namespace has": [
    withEntry({ name: "default" }),
    "serviceAccounts[0].createServiceAccount = true: must be false: every namespace has the service account default",
  ],
  "a Job of an existing service account in a new namespace": [
    { ...withEntry({ createServiceAccount: false }), createNamespaces: ["ci"] },
    "serviceAccounts[0].runJob = true: must be false: the service account cannot exist before the stack creates its namespace",
  ],
  "a new namespace that no entry uses": [
    { ...stackOf(ENTRY), createNamespaces: ["ci", "web"] },
    'createNamespaces[1] = "web": is not the namespace of an entry',
  ],
  "an invalid list, but no new namespace beside it, which it may use": [
    { userLogin: undefined, serviceAccounts: "a/b", createNamespaces: ["ci"] },
    'serviceAccounts = "a/b": must be a list',
  ],
  "a new namespace of a stack that lists no entry": [
    { createNamespaces: ["ci"] },
    'createNamespaces[0] = "ci": is not the namespace of an entry',
  ],
  "a new namespace that is listed twice": [
    { ...stackOf(ENTRY), createNamespaces: ["ci", "ci"] },
    'createNamespaces[1] = "ci": must not be listed twice',
  ],
  "a new namespace that every cluster has": [
    { ...withEntry({ namespace: "kube-system" }), createNamespaces: ["kube-system"] },
    'createNamespaces[0] = "kube-system": exists on every cluster',
  ],
  "more than 40 entries": [
    stackOf(...Array.from({ length: 41 }, (_, index) => ({ ...ENTRY, name: `a${index}` }))),
    "serviceAccounts: must have at most 40 entries: an issuer has at most 40 policies",
  ],
  "a Job that runs as another service account": [
    { jobPodSpec: { serviceAccountName: "a", serviceAccount: "b" } },
    /^jobPodSpec\.serviceAccountName = "a": must not be set: each Job runs as its own service account$/,
    /^jobPodSpec\.serviceAccount = "b": must not be set/,
  ],
  "a Job that does not test the exchange": [
    {
      jobPodSpec: {
        containers: [
          { name: "other", command: [] },
          { name: "token-exchange", command: ["true"], args: [] },
        ],
      },
    },
    /^jobPodSpec\.containers\[1\]\.command: must not be set: the Job would not test the token exchange/,
    /^jobPodSpec\.containers\[1\]\.args: must not be set: the Job would not test the token exchange/,
  ],
  "a Job that runs another script, or exchanges another ID token": [
    {
      jobPodSpec: {
        containers: [
          {
            name: "token-exchange",
            env: [{ name: "A" }, { name: "PULUMI_CREDENTIAL_HELPER", value: "none" }],
            volumeMounts: [
              { name: "a", mountPath: "/var/run/secrets/pulumi.com" },
              { name: "b", mountPath: "/data" },
              { name: "c", mountPath: "/var/run//secrets/pulumi.com/organization" },
              { name: "d", mountPath: "/var/run/secrets/pulumi.com-2" },
              { name: "e", mountPath: "var/run/secrets/pulumi.com" },
            ],
          },
        ],
        volumes: [{ name: "a" }, { name: "pulumi-token-exchange" }],
      },
    },
    /^jobPodSpec\.containers\[0\]\.env\[1\]\.name = "PULUMI_CREDENTIAL_HELPER": must not be set/,
    /^jobPodSpec\.containers\[0\]\.volumeMounts\[0\]\.mountPath = "\/var\/run\/secrets\/pulumi\.com": must not be set/,
    /^jobPodSpec\.containers\[0\]\.volumeMounts\[2\]\.mountPath = .*: must not be set/,
    /^jobPodSpec\.containers\[0\]\.volumeMounts\[4\]\.mountPath = .*: must not be set/,
    /^jobPodSpec\.volumes\[1\]: must not be set/,
  ],
  "variables and mounts of a Job that are not lists of objects": [
    { jobPodSpec: { containers: [{ name: "token-exchange", env: { A: "b" }, volumeMounts: ["a", null] }] } },
    "jobPodSpec.containers[0].env: must be a list",
    'jobPodSpec.containers[0].volumeMounts[0] = "a": must be an object',
    "jobPodSpec.containers[0].volumeMounts[1]: must be an object",
  ],
  "a container or a volume without a name, which would replace the Job's own": [
    { jobPodSpec: { containers: [{ image: "x" }], volumes: [{ name: "a" }, {}] } },
    "jobPodSpec.containers[0].name: required",
    "jobPodSpec.volumes[1].name: required",
  ],
  "rules that are a list": [
    withEntry({ policyRules: [] }),
    "serviceAccounts[0].policyRules: must be an object",
  ],
  "an empty command": [
    withEntry({ command: [] }),
    /command: must name a program, such as \["pulumi","whoami"\]$/,
  ],
  "a command without a program": [withEntry({ command: ["", "a"] }), /command: must name a program/],
  "a null character": [withEntry({ command: ["a\0"] }), /command\[0\] = "a\\u0000": must not contain a null/],
};

for (const [behavior, [given, ...expected]] of Object.entries(REJECTED)) {
  test(`rejects ${behavior}`, () => {
    const problems = rejected(given);
    assert.equal(problems.length, expected.length, problems.join("\n"));
    for (const [index, problem] of problems.entries()) {
      const wanted = expected[index] ?? "";
      if (typeof wanted === "string") assert.equal(problem, wanted);
      else assert.match(problem, wanted);
    }
  });
}

for (const [key, values, reason] of [
  ["clusterName", ["-a", "a b", "a".repeat(101)], /must be the name of an EKS cluster/],
  ["createCluster", ["yes", "1", "TRUE"], /must be true or false/],
  ["organization", ["a b"], /must be the name of a Pulumi organization/],
  ["issuerName", [" a", "a ", "a\u202eb"], /must not begin or end with a space, or contain invis/],
  ["maxExpirationSeconds", ["1.5", "0", "1000000000"], /must be (a whole number of|at \w+ \d+) seconds?/],
  ["permissionsBoundaryArn", ["arn:aws:iam::123456789012:role/a"], /must be the ARN of an IAM policy/],
  ["rolePath", ["/a", "a/", "//", "/a*/"], /must be "\/", or begin and end with "\/"/],
  ["image", ["base", "base:latest", "registry:5000/base"], /pinned to a digest or to a tag other than/],
  ["image", [":1", "a b:1", "a@sha256:12", "A:1"], /must be the name of an image/],
  ["pulumiApiUrl", ["http://a.example"], /must be https:\/\/HOST.* a loopback host/],
  [
    "pulumiApiUrl",
    ["https://app.pulumi.com", "https://APP.pulumi.com:443/"],
    /of the API.*not of the console/,
  ],
  ["createNamespaces", ["a", "{}"], /must be a list/],
] satisfies [string, string[], RegExp][]) {
  test(`rejects ${values.map((value) => JSON.stringify(value.slice(0, 20))).join(", ")} for ${key}`, () => {
    for (const value of values) {
      const [problem = "", ...others] = rejected({ [key]: value });
      assert.deepEqual(others, []);
      assert.ok(problem.startsWith(key), problem);
      assert.match(problem, reason);
    }
  });
}

for (const [key, type, values, reason] of [
  ["namespace", "personal", ["CI", "-a", "a.b", "a".repeat(64)], /must be 1 to 63 lowercase letters/],
  ["name", "personal", ["CI", "a-", "a.b", "a_b"], /must be 1 to 63 lowercase letters/],
  ["tokenType", "personal", ["admin", "Team"], /must be personal, organization, team, or runner/],
  ["userLogin", "personal", ["a*"], /must be the login of a Pulumi user/],
  ["teamName", "team", ["ops-*", "op?", "ops.eu"], /wildcards .* which also match other teams/],
  ["runnerId", "runner", ["a/b", "a b"], /must be the ID of a runner pool/],
  ["runnerName", "runner", ["a b"], /at most 100 printable ASCII characters/],
  ["tokenExpirationSeconds", "personal", ["900", 0], /must be (a whole number of|at least 1) second/],
  ["tokenAudience", "personal", ["a b", "*", "sts?", ".", "...", "a\u200bb"], /must not contain spaces/],
  [
    "tokenAudience",
    "personal",
    [
      "sts.amazonaws.com",
      "pods.eks.amazonaws.com",
      "sts.eu-west-1.amazonaws.com",
      "https://sts.amazonaws.com.cn",
    ],
    /an audience that AWS accepts/,
  ],
  [
    "tokenAudience",
    "personal",
    ["https://kubernetes.default.svc", "kubernetes.default.svc.cluster.local"],
    /an audience that the cluster's API server accepts/,
  ],
  ["audienceRule", "personal", ["true", 1], /must be true or false/],
  ["awsRole", "personal", ["IRSA", true], /must be irsa, pod-identity, or none/],
  ["runJob", "personal", ["false"], /must be true or false/],
] satisfies [string, string, unknown[], RegExp][]) {
  test(`rejects ${values.map((value) => JSON.stringify(value).slice(0, 20)).join(", ")} for ${key} of an entry`, () => {
    for (const value of values) {
      const [problem = "", ...others] = rejected(stackOf({ ...entryOf(type), [key]: value }));
      assert.deepEqual(others, []);
      assert.ok(problem.startsWith(`serviceAccounts[0].${key}`), problem);
      assert.match(problem, reason);
    }
  });
}

test("ignores a trailing slash of pulumiApiUrl", () => {
  assert.equal(accepted({ pulumiApiUrl: "https://a.example/" }).access.pulumiApiUrl, "https://a.example");
});

test("reports an internationalized host name that this version of Node.js cannot parse", () => {
  const pulumiApiUrl = "https://xn--a.com";
  const { problems } = parse({ pulumiApiUrl });
  const expected = URL.canParse(pulumiApiUrl) ? [] : [`pulumiApiUrl = "${pulumiApiUrl}": must be a URL`];
  assert.deepEqual(linesOf(problems), expected);
});

test("each token type requires its own settings, and rejects those of the others", () => {
  const owners = { ...OWNERS, organization: { organizationAdmin: true } };
  for (const [tokenType, own] of Object.entries(owners)) {
    const missing = rejected(stackOf({ namespace: "a", name: "b", tokenType }, entryOf("team")));
    const required = Object.keys(OWNERS[tokenType] ?? {});
    const reason = `required with tokenType ${tokenType}`;
    assert.deepEqual(
      missing,
      required.map((key) => `serviceAccounts[0].${key}: ${reason}`),
    );

    for (const foreign of Object.values(owners).filter((it) => it !== own)) {
      const problems = rejected(stackOf({ namespace: "a", name: "b", tokenType, ...own, ...foreign }));
      const values = Object.entries(foreign).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
      const expected = values.map(
        (it) => `serviceAccounts[0].${it}: is not valid with tokenType ${tokenType}`,
      );
      assert.deepEqual(problems, expected);
    }
  }
});

test("policyRules must not replace a built-in rule, in any spelling, and must be paths of claims", () => {
  const builtIn = ['"kubernetes.io".namespace', '"kubernetes.io".serviceaccount.name', "aud"];
  const quoted = [
    ...['"kubernetes.io"."namespace"', '"kubernetes.io"."serviceaccount".name', '"aud"'],
    ...['"kubernetes.io.namespace"', '"kubernetes.io"."serviceaccount.name"', 'kubernetes."io.namespace"'],
    ...['"kubernetes"."io"."namespace"', '"kubernetes".io.serviceaccount."name"'],
  ];
  for (const claim of [...builtIn, ...quoted]) {
    const [problem = ""] = rejected(withEntry({ policyRules: { [claim]: "a" } }));
    assert.match(problem, /must not replace a rule that every policy has/, claim);
  }
  const malformed = [
    'a"u"d',
    '"aud',
    '"a""ud"',
    '"aud".',
    "aud ",
    "aud\n",
    '""aud',
    ".aud",
    '"kubernetes.io" .namespace',
  ];
  for (const claim of ["", '"sub', "a..b", "a b", "kubernetes.io.pod.name", ...malformed]) {
    const [problem = ""] = rejected(withEntry({ policyRules: { [claim]: "a" } }));
    assert.match(problem, /must be the path of a claim/, claim);
  }
});

test("policyRules must not contain invisible characters, which a terminal obeys or does not show", () => {
  for (const character of ["\u009b", "\u202e", "\u200b", "\u0007", "\u2066", "\ufeff"]) {
    for (const [claim, pattern] of [
      ["sub", `a${character}b`],
      [`a${character}ud`, "a"],
      [`"a${character}ud"`, "a"],
    ] as const) {
      const [problem = "", ...others] = rejected(withEntry({ policyRules: { [claim]: pattern } }));
      assert.deepEqual(others, []);
      assert.match(problem, /must (not contain invisible characters|be the path of a claim)/);
      assert.ok(!problem.includes(character), JSON.stringify(problem));
    }
  }
});

test("rejects rules whose names would be dropped, so that the policy would require less", () => {
  const policyRules = JSON.parse('{"__proto__":"a"}');
  const text = JSON.stringify([{ ...ENTRY, policyRules: "RULES" }]).replace(
    '"RULES"',
    JSON.stringify(policyRules),
  );
  const given = { serviceAccounts: text.replace('"policyRules":{}', '"policyRules":{"__proto__":"a"}') };
  assert.match(rejected({ ...stackOf(), ...given })[0] ?? "", /policyRules: must not contain __proto__/);
});

test("reports all problems at once, setting by setting and entry by entry, and each setting once", () => {
  const given = {
    clusterName: undefined,
    userLogin: undefined,
    maxExpirationSeconds: "600",
    serviceAccounts: [
      { ...ENTRY, tokenExpirationSeconds: "a", nmae: "b" },
      { ...ENTRY, tokenExpirationSeconds: 601, teamName: "*" },
    ],
  };
  assert.deepEqual(rejected(given), [
    "clusterName: required",
    'serviceAccounts[0].nmae: unknown setting; did you mean "name"?',
    'serviceAccounts[0].tokenExpirationSeconds = "a": must be a whole number of seconds',
    'serviceAccounts[1].teamName = "*": must have at most 100 printable ASCII characters, without spaces, quotation marks, colons, backslashes, and the wildcards of patterns such as "*", "?", and ".", which also match other teams',
    "serviceAccounts[1].tokenExpirationSeconds = 601: must be at most maxExpirationSeconds, whose default is 7200",
    'serviceAccounts[1].name = "deployer": is the same service account as serviceAccounts[0]',
  ]);
});

test("requires an organization in a stack that has none", () => {
  const { problems } = parse({}, { organization: undefined });
  assert.deepEqual(linesOf(problems), ["organization: required, because the stack has no organization"]);
  assert.deepEqual(parse({ organization: "b" }, { organization: undefined }).problems, []);
});

test("rejects encrypted values wherever they are, and prints no value beside one", () => {
  const secretKeys = ["project:serviceAccounts", "aws:profile", "pulumiservice:accessToken", "other:a"];
  const given = { ...withEntry({ name: "Hunter2" }), "aws:profile": "hunter2" };
  const lines = linesOf(parse(given, { secretKeys }).problems);
  const reason = "contains an encrypted value, which would be stored in plaintext in the stack's state";
  const [first, name, ...others] = lines;
  assert.deepEqual([first, ...others], [`serviceAccounts: ${reason}`, `aws:profile: ${reason}`]);
  assert.match(name ?? "", /^serviceAccounts\[0\]\.name: must be 1 to 63/);
  const twice = stackOf(
    { ...ENTRY, name: "hunter2" },
    { ...ENTRY, name: "hunter2", tokenExpirationSeconds: 43210 },
  );
  const limit = { secretKeys: ["project:serviceAccounts", "project:maxExpirationSeconds"] };
  const all = linesOf(parse({ ...twice, maxExpirationSeconds: 4321 }, limit).problems);
  assert.equal(all.length, 4);
  assert.doesNotMatch(all.join(), /hunter2|4321/);
  assert.doesNotMatch(lines.join(), /hunter2/i);
});

test("reports an encrypted credential of the AWS provider once, as what the program does not support", () => {
  const { problems } = parse({ "aws:secretKey": "s3cret" }, { secretKeys: ["aws:secretKey"] });
  const [line = "", ...others] = linesOf(problems);
  assert.match(line, /^aws:secretKey: is not supported by `aws eks get-token`/);
  assert.deepEqual(others, []);
});

test("knows the encrypted settings of an inline program of the Automation API, which has no variable for them", async () => {
  await pulumi.runtime.setMocks(
    { newResource: () => assert.fail(), call: () => ({}) },
    "project",
    "dev",
    false,
    "acme",
  );
  // As the SDK's automation/server.ts does.
  const key = "project:userLogin";
  pulumi.runtime.setAllConfig({ [key]: "alice", "project:clusterName": "a" }, [key]);
  assert.equal(process.env.PULUMI_CONFIG_SECRET_KEYS, undefined);
  assert.deepEqual(readRawConfig().secretKeys, [key]);
});

test("does not print the values of unknown settings, nor what looks like a token or contains a password", () => {
  const token = `pul-${"0f".repeat(20)}`;
  const lines = rejected({
    ...stackOf({ ...entryOf("team"), teamName: `${token}:a`, key: token }),
    token,
    pulumiApiUrl: "https://a:b@c.example",
  });
  assert.equal(lines.length, 4);
  assert.doesNotMatch(lines.join(), /pul-|a:b@/);
});

test("escapes them in the name of another project, too", () => {
  const [line = ""] = rejected({ "ev\u202eil:clusterName": "a" });
  assert.ok(line.includes('belongs to project "ev\\u{202e}il"'), line);
});

test("escapes control, bidirectional, and invisible characters in values and names", () => {
  const lines = rejected({
    ...withEntry({ userLogin: "a\u202eb\u200b\u00a0\u3164\n" }),
    "a\u202e": "x",
  });
  assert.deepEqual(
    lines.map((line) => line.replace(/: .*/, "")),
    ['serviceAccounts[0].userLogin = "a\\u{202e}b\\u{200b}\\u{a0}\\u{3164}\\n"', '"a\\u{202e}"'].toReversed(),
  );
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
  return { userLogin: undefined, serviceAccounts };
}

function parse(given: Given, raw: Partial<RawConfig> = {}) {
  return parseConfig(rawConfigOf({ ...REQUIRED, ...given }, raw));
}

function accepted(given: Given = {}) {
  const { config, problems } = parse(given);
  return config ?? assert.fail(linesOf(problems).join("\n"));
}

/** Returns a line for each problem. */
function rejected(given: Given): string[] {
  return linesOf(parse(given).problems);
}

function linesOf(problems: Parameters<typeof messageOf>[1]): string[] {
  return messageOf("", problems)
    .split("\n")
    .slice(2, -1)
    .map((line) => line.slice(2));
}
