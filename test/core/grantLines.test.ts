// The output that says who gets what: what each line names, and which settings it leaves out.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { unknown } from "@pulumi/pulumi/output";
import { type CompleteSettings, settingsEntries } from "../../settings/access";
import { type Account, accountEntries, withAccountDefaults } from "../../settings/account";
import { grantLineOf } from "../../settings/grants";

const POLICY = "arn:aws:iam::aws:policy/ReadOnlyAccess";

const ACCESS: CompleteSettings = {
  organization: "acme",
  issuerName: "eks-prod",
  maxExpirationSeconds: 3600,
  audienceRule: true,
  rolePath: "/",
  image: "pulumi/pulumi-base:1",
  jobPodSpec: {},
  pulumiApiUrl: "https://api.pulumi.com",
  createNamespaces: [],
  serviceAccounts: [],
};

const ACCOUNT: Account = withAccountDefaults(
  {
    namespace: "ci",
    name: "deployer",
    tokenType: "team",
    teamName: "a",
    policyRules: {},
    createServiceAccount: true,
    awsRole: "irsa",
    injectToken: false,
    runJob: true,
  },
  ACCESS,
);

const PERSONAL = { tokenType: "personal", userLogin: "alice", teamName: undefined } as const;
const ORGANIZATION = { tokenType: "organization", teamName: undefined } as const;
const RUNNER = { tokenType: "runner", runnerId: "1", runnerName: "eks", teamName: undefined } as const;

/** A change of each setting that grants something, from which other line, and the line that names it. */
const SHOWN: [
  setting: string,
  changed: Partial<Account>,
  line: string,
  common?: Partial<CompleteSettings>,
][] = [
  ["tokenType", ORGANIZATION, "organization, 3600 s, role by irsa"],
  ["userLogin", PERSONAL, "user:alice, 3600 s, role by irsa"],
  ["teamName", { teamName: "b" }, "team:b, 3600 s, role by irsa"],
  ["runnerId", { ...RUNNER, runnerId: "2" }, "runner:eks (ID 2), 3600 s, role by irsa"],
  ["runnerName", { ...RUNNER, runnerName: "other" }, "runner:other (ID 1), 3600 s, role by irsa"],
  [
    "organizationRoleId",
    { ...ORGANIZATION, organizationRoleId: "r" },
    "organization (role r), 3600 s, role by irsa",
  ],
  [
    "organizationAdmin",
    { ...ORGANIZATION, organizationAdmin: true },
    "organization (admin), 3600 s, role by irsa",
  ],
  ["tokenExpirationSeconds", { tokenExpirationSeconds: 600 }, "team:a, 600 s, role by irsa"],
  ["tokenAudience", { tokenAudience: "aud" }, "team:a, 3600 s, audience aud, role by irsa"],
  [
    "policyRules",
    { policyRules: { iss: "https://*" } },
    "team:a, 3600 s, only with iss = https://*, role by irsa",
  ],
  ["awsRole", { awsRole: "pod-identity" }, "team:a, 3600 s, role by pod-identity"],
  [
    "rolePolicyArns",
    { rolePolicyArns: [POLICY, "arn:b"] },
    `team:a, 3600 s, role by irsa (${POLICY}, arn:b)`,
  ],
  ["injectToken", { injectToken: true }, "team:a, 3600 s, role by irsa, injected into its pods"],
  [
    "maxExpirationSeconds",
    {},
    "team:a, 3600 s of at most 43200 s, role by irsa",
    { maxExpirationSeconds: 43_200 },
  ],
  ["audienceRule", {}, "team:a, 3600 s, for any audience, role by irsa", { audienceRule: false }],
  [
    "permissionsBoundaryArn",
    {},
    `team:a, 3600 s, role by irsa within ${POLICY}`,
    { permissionsBoundaryArn: POLICY },
  ],
];

const NOT_SHOWN: Record<string, string> = {
  namespace: "it is the key of the line",
  name: "it is the key of the line",
  serviceAccounts: "each has a line",
  organization: "a deployed stack keeps it",
  pulumiApiUrl: "a deployed stack keeps it",
  issuerName: "it only names the issuer",
  rolePath: "it only names roles",
  createServiceAccount: "who creates it changes nothing about what it gets",
  createNamespaces: "who creates them changes nothing about what is granted in them",
  runJob: "the Job is shown as a resource",
  command: "the Job is shown as a resource",
  image: "the Job is shown as a resource",
  jobPodSpec: "the Job is shown as a resource",
};

const BASE = "team:a, 3600 s, role by irsa";

test("the line of a service account without anything else is its owner, the lifetime, and the role", async () => {
  assert.equal(await grantLineOf(ACCOUNT, ACCESS), BASE);
  assert.equal(await grantLineOf({ ...ACCOUNT, awsRole: "none" }, ACCESS), "team:a, 3600 s");
});

for (const [setting, changed, line, common = {}] of SHOWN) {
  test(`the line changes with ${setting}`, async () => {
    assert.notEqual(line, BASE);
    assert.equal(await grantLineOf({ ...ACCOUNT, ...changed }, { ...ACCESS, ...common }), line);
  });
}

test("each setting is in the line, or on the list of those that are not", () => {
  const settings = [...Object.keys(accountEntries), ...Object.keys(settingsEntries)];
  const named = [...SHOWN.map(([setting]) => setting), ...Object.keys(NOT_SHOWN)];
  assert.deepEqual(named.toSorted(), settings.toSorted());
});

test("the line has what a preview knows, and says what it does not", async () => {
  const later = pulumi.output(Promise.resolve(unknown as unknown as string));
  const line = await grantLineOf({ ...ACCOUNT, teamName: later }, ACCESS);
  assert.equal(line, "team:known after the update, 3600 s, role by irsa");
  const known = pulumi.output(Promise.resolve("b"));
  assert.match(await grantLineOf({ ...ACCOUNT, teamName: known }, ACCESS), /^team:b, /);
});
