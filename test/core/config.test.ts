// The configuration: what the program receives, and every problem with its path, its value, and its reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config";
import { messageOf } from "../../settings/problems";
import type { RawConfig } from "../../settings/raw";
import { declarationsOf, meaningAndDefault } from "../support/declarations";
import { rawConfigOf } from "../support/rawSettings";

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

test("a runner's Job runs only the exchange, since the CLI accepts no runner token", () => {
  const [account] = accepted(stackOf(entryOf("runner"))).settings.serviceAccounts;
  assert.deepEqual(account?.command, ["true"]);
});

// The tests of index, job, and injection use the other settings.
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

/** The problems of a configuration: of the minimal one with these settings, and with this change of its one entry. */
interface Rejected {
  what: string;
  settings?: Given;
  entry?: Given;
  /** One line for each. … is a placeholder for any string. */
  problems: string[];
}

const NOT_BY_GET_TOKEN =
  "is not supported by … use the environment, aws:profile, or one role in aws:assumeRoles with no settings but roleArn, sessionName, and duration";

const UNSUPPORTED_KEYS = [
  ...["aws:assumeRoleWithWebIdentity", "aws:accessKey", "aws:secretKey", "aws:token"],
  ...["aws:sharedCredentialsFiles", "aws:sharedConfigFiles"],
];

const REJECTED: Rejected[] = [
  {
    what: "unknown settings of the stack, and names what they may be",
    settings: {
      clusterNmae: "x",
      zone: "x",
      toString: "x",
      injectToken: true,
      userLogin: "alice",
      "serviceAccounts[0].name": "x",
    },
    problems: [
      'clusterNmae: unknown setting; did you mean "clusterName"?',
      "zone: unknown setting",
      // The name of a method.
      "toString: unknown setting",
      "injectToken: is a setting of an entry of serviceAccounts",
      "userLogin: is a setting of an entry of serviceAccounts",
      '"serviceAccounts[0].name": is a path: remove it, and set it with --path',
    ],
  },
  {
    what: "unknown settings of an entry, and names what they may be",
    entry: { image: "a:1", audienceRule: true, toString: "x", team: "payments", role: null },
    problems: [
      "serviceAccounts[0].image: belongs beside serviceAccounts, not in an entry",
      "serviceAccounts[0].audienceRule: belongs beside serviceAccounts, not in an entry",
      "serviceAccounts[0].toString: unknown setting",
      "serviceAccounts[0].team: unknown setting",
      // Two settings contain the word.
      "serviceAccounts[0].role: unknown setting",
    ],
  },
  {
    what: "a missing setting, and names it in other projects, but no invalid one",
    settings: {
      clusterName: "",
      image: "a b",
      "eks-pulumi-oidc:clusterName": "a",
      "eks-platform:image": "a",
    },
    problems: [
      "clusterName: required. Pulumi ignores eks-pulumi-oidc:clusterName, because the name of this project is project",
      'image = "a b": must be the name of an image',
    ],
  },
  {
    what: "a missing list, with an entry to copy",
    settings: { serviceAccounts: "null" },
    problems: [
      'serviceAccounts: required under "config:" in the stack file, such as [{ namespace: default, name: pulumi-service-account, tokenType: personal, userLogin: sample-login }]',
    ],
  },
  {
    what: "settings of providers that are not passed on, without their values, which can be credentials",
    settings: {
      ...Object.fromEntries(UNSUPPORTED_KEYS.map((key) => [key, "s3cret"])),
      "aws:assumeRoles": [{ roleArn: "s3cret" }, { roleArn: "s3cret" }],
      "pulumiservice:accessToken": "s3cret",
      "pulumiservice:apiUrl": "s3cret",
    },
    problems: [
      ...["aws:assumeRoles", ...UNSUPPORTED_KEYS].map((key) => `${key}: ${NOT_BY_GET_TOKEN}`),
      "pulumiservice:accessToken: is not used: remove it, and run … or set PULUMI_ACCESS_TOKEN in the environment",
      "pulumiservice:apiUrl: is not used: remove it, and set pulumiApiUrl",
    ],
  },
  {
    what: "what the token for the cluster would lack of a role, without the values",
    settings: {
      "aws:assumeRoles": [{ roleArn: "a", externalId: "s3cret", sourceIdentity: "s3cret" }],
    },
    problems: [
      "aws:assumeRoles[0].externalId: is not supported by …",
      "aws:assumeRoles[0].sourceIdentity: is not supported by …",
    ],
  },
  {
    what: "accounts that are not written as a list of IDs",
    settings: { "aws:allowedAccountIds": ["12345678901"] },
    problems: ["aws:allowedAccountIds[0]: must be an AWS account ID: 12 digits, in quotes"],
  },
  {
    what: "policies of an account that the deployment is not limited to, but AWS's own",
    settings: {
      "aws:allowedAccountIds": ["123456789012"],
      permissionsBoundaryArn: "arn:aws:iam::210987654321:policy/boundary",
    },
    entry: {
      rolePolicyArns: [POLICY, "arn:aws:iam::123456789012:policy/a", "arn:aws:iam::210987654321:policy/a"],
    },
    problems: [
      'permissionsBoundaryArn = "arn:aws:iam::210987654321:policy/boundary": is of account 210987654321, but aws:allowedAccountIds has only 123456789012',
      'serviceAccounts[0].rolePolicyArns[2] = "arn:aws:iam::210987654321:policy/a": is of account 210987654321, but aws:allowedAccountIds has only 123456789012',
    ],
  },
  {
    what: "default tags that would tag nothing",
    settings: { "aws:defaultTags": { team: "ops" } },
    problems: ['aws:defaultTags.tags: must be an object with tags, such as {"tags":{"team":"ops"}}'],
  },
  {
    what: "a list without an entry",
    settings: { serviceAccounts: [] },
    problems: [
      "serviceAccounts: must not be empty. To end all access, run `pulumi destroy`, or remove the component",
    ],
  },
  {
    what: "something else than a list of entries, with which createNamespaces is not compared",
    settings: { serviceAccounts: "a/b", createNamespaces: ["ci"] },
    problems: ['serviceAccounts = "a/b": must be a list: put it in brackets, [ ]'],
  },
  {
    what: "the declaration of a list, as in Pulumi.yaml",
    settings: { serviceAccounts: { type: "array", items: { type: "object" }, default: [ENTRY] } },
    problems: ["serviceAccounts: must be a list, not a declaration: paste what is below `default:`"],
  },
  {
    what: "entries that are not objects",
    settings: { serviceAccounts: ["a", []] },
    problems: ['serviceAccounts[0] = "a": must be an object', "serviceAccounts[1]: must be an object"],
  },
  {
    what: "policies without a role",
    entry: { awsRole: "none", rolePolicyArns: [POLICY] },
    problems: ["serviceAccounts[0].rolePolicyArns: requires an IAM role, but awsRole is none"],
  },
  {
    what: "injection for a runner",
    entry: { tokenType: "runner", runnerId: "a", runnerName: "a", userLogin: undefined, injectToken: true },
    problems: [
      "serviceAccounts[0].injectToken = true: is not valid with tokenType runner: a runner exchanges its ID token itself",
    ],
  },
  {
    what: "more entries with injectToken than its admission policy can contain",
    settings: {
      serviceAccounts: Array.from({ length: 1000 }, (_, index) => {
        const name = `app-${index}-`.padEnd(63, "a");
        return { ...ENTRY, namespace: "n".repeat(63), name, injectToken: true };
      }),
    },
    problems: [
      "serviceAccounts: too many entries have injectToken: its admission policy has an expression of 154002 characters, and the API server accepts 100000. …",
    ],
  },
  {
    what: "a service account that every namespace has",
    entry: { name: "default" },
    problems: [
      "serviceAccounts[0].createServiceAccount: must be false: every namespace has the service account default",
    ],
  },
  {
    what: "what a new cluster does not have",
    settings: { createCluster: true, createOidcProvider: true },
    entry: { namespace: "web" },
    problems: [
      'serviceAccounts[0].namespace = "web": must be in createNamespaces: the cluster that createCluster creates does not have it',
      "createOidcProvider = true: must be false with createCluster, which creates what its roles need",
    ],
  },
  {
    what: "new namespaces that no entry has, or that are listed twice beside an invalid one",
    settings: { createNamespaces: ["web", "ci", "ci", "CI"] },
    problems: [
      'createNamespaces[0] = "web": no entry of serviceAccounts has this namespace',
      'createNamespaces[2] = "ci": must not be listed twice',
      'createNamespaces[3] = "CI": must be 1 to 63 lowercase letters…',
    ],
  },
  {
    what: "a pod spec of the Jobs that misleads or cannot be merged",
    settings: {
      jobPodSpec: {
        serviceAccountName: "a",
        volumes: ["a"],
        containers: [
          { image: "x" },
          { name: "proxy", env: { A: "b" } },
          { name: "token-exchange", volumeMounts: [{}, { mountPath: "var/run//secrets/pulumi.com/a" }] },
        ],
      },
    },
    problems: [
      "jobPodSpec.serviceAccountName: must not be set: each Job runs as its own service account",
      "jobPodSpec.containers[0].name: required",
      "jobPodSpec.containers[1].env: must be a list",
      "jobPodSpec.containers[2].volumeMounts[0].mountPath: required",
      'jobPodSpec.containers[2].volumeMounts[1].mountPath = "var/run//secrets/pulumi.com/a": must not be below…',
      'jobPodSpec.volumes[0] = "a": must be an object',
    ],
  },
  {
    what: "null in a pod spec of the Jobs",
    settings: { jobPodSpec: { hostname: null, containers: [{ name: "proxy", env: [null] }] } },
    problems: ["hostname", "containers[0].env[0]"].map(
      (path) => `jobPodSpec.${path}: must not be null, which would change nothing`,
    ),
  },
  {
    what: "containers and commands of the Jobs that would be lost",
    settings: {
      jobPodSpec: {
        containers: [
          { name: "token-exchange", command: ["true"] },
          { name: "token-exchange", args: ["a"] },
          { name: "proxy", command: ["proxy"], args: ["a"] },
          { name: "proxy" },
        ],
      },
    },
    problems: [
      "jobPodSpec.containers[0]: must not set command or args, which each Job has from command of its entry",
      "jobPodSpec.containers[1]: must not set command or args, which each Job has from command of its entry",
      "jobPodSpec.containers[3]: must not have the name of a container before it",
    ],
  },
];

for (const { what, settings, entry, problems } of REJECTED) {
  test(`rejects ${what}`, () => {
    assertProblems(rejected({ ...(entry && withEntry(entry)), ...settings }), problems);
  });
}

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

test("an organization token has a role, or is an administrator's", () => {
  const organization = {
    namespace: "a",
    name: "b",
    tokenType: "organization",
    organizationRoleId: "b7c1d9a2",
  };
  assert.deepEqual(
    accepted(stackOf(organization)).settings.serviceAccounts[0]?.organizationRoleId,
    "b7c1d9a2",
  );
  assert.deepEqual(rejected(stackOf({ ...organization, organizationAdmin: true })), [
    "serviceAccounts[0].organizationRoleId: is not valid with organizationAdmin: true",
  ]);
  assert.deepEqual(rejected(stackOf({ ...organization, tokenType: "team", teamName: "a" })), [
    'serviceAccounts[0].organizationRoleId = "b7c1d9a2": is not valid with tokenType team',
  ]);
});

test("reports all problems at once, setting by setting and entry by entry, and each setting once", () => {
  const serviceAccounts = [
    { ...ENTRY, tokenExpirationSeconds: "a", nmae: "b" },
    { ...ENTRY, tokenExpirationSeconds: 601, teamName: "*" },
  ];
  const given = { ...stackOf(...serviceAccounts), clusterName: undefined, maxExpirationSeconds: "600" };
  assertProblems(rejected(given), [
    "clusterName: required",
    'serviceAccounts[0].nmae: unknown setting; did you mean "name"?',
    'serviceAccounts[0].tokenExpirationSeconds = "a": must be a whole number of seconds',
    'serviceAccounts[1].teamName = "*": must have at most 100 printable ASCII characters…',
    "serviceAccounts[1].tokenExpirationSeconds = 601: must be at most maxExpirationSeconds, which is 600",
    "serviceAccounts[1].name: must not be listed twice",
  ]);
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
