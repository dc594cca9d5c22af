// The schemas of stack files, which editors read, accept and reject what the program does.

import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import Ajv from "ajv";
import { parse, stringify } from "yaml";
import { parseConfig } from "../../config";
import { readStackFile } from "../../simulator/stackFile";
import { EXAMPLES, exampleOf } from "../support/examples";
import { codeIn, ROOT, read } from "../support/project";
import { stackSchema } from "../support/stackFileSchema";
import { temporaryDirectory } from "../support/temporaryDirectory";

type Settings = Record<string, unknown>;

const ajv = new Ajv({ strictTypes: false, allowMatchingProperties: true }).addKeyword("patternErrorMessage");
const isStackFile = ajv.compile(JSON.parse(read("settings/stack.schema.json")));

const directory = temporaryDirectory({ after });

const TEAM = { namespace: "ci", name: "app", tokenType: "team", teamName: "ci" };
const entry = (settings: Settings) => ({ serviceAccounts: [{ ...TEAM, ...settings }] });
const podSpec = (settings: unknown) => ({ jobPodSpec: { tolerations: [settings] } });

/** By what they have in common. Each is a change of a valid stack. */
const VALID: Record<string, Settings[]> = {
  "a boolean or an integer as text": [
    { createCluster: "false", injectToken: "true" },
    { maxExpirationSeconds: "900" },
  ],
  "a list or an object as JSON": [
    { serviceAccounts: JSON.stringify([TEAM]) },
    { createNamespaces: '["ci"]', jobPodSpec: '{"priority":1}' },
  ],
  "a number or a boolean as the text of a setting of the stack": [
    { clusterName: 123 },
    { organization: true },
  ],
  "null and an empty string, which count as not given": [
    ...["", null].map((value) => ({ organization: value, injectToken: value, createNamespaces: value })),
    ...["", null].map((value) => ({ image: value, jobPodSpec: value, maxExpirationSeconds: value })),
    ...["", null].map((value) => entry({ runJob: value, awsRole: value, command: value, userLogin: value })),
    ...["", null].map((value) => entry({ tokenExpirationSeconds: value, policyRules: value })),
  ],
  "every token type": [
    entry({ tokenType: "personal", userLogin: "alice", teamName: null }),
    entry({ tokenType: "organization", organizationAdmin: true, teamName: null }),
    entry({ tokenType: "runner", runnerId: "a", runnerName: "b", teamName: null }),
  ],
  "any field of a pod": [podSpec({ key: "a", security: true })],
  "settings of providers, and one role to assume": [
    { "aws:region": "us-west-2", "aws:defaultTags": { tags: { a: "b" } }, "kubernetes:namespace": "a" },
    { "aws:assumeRoles": [{ roleArn: "arn:aws:iam::123456789012:role/a" }] },
    { "aws:assumeRoles": '[{"roleArn":"arn:aws:iam::123456789012:role/a"}]' },
    { "kubernetes:kubeconfig": { secure: "AAA" } },
  ],
};

const INVALID: Record<string, Settings[]> = {
  "an unknown name in an entry, or a setting of the stack": [
    entry({ teamname: "a" }),
    entry({ image: "a:1" }),
  ],
  "a required setting of an entry that is missing": [
    entry({ namespace: null }),
    entry({ name: undefined }),
    entry({ tokenType: "" }),
    entry({ teamName: undefined }),
    entry({ tokenType: "personal", teamName: undefined }),
    entry({ tokenType: "runner", runnerId: "a", teamName: undefined }),
  ],
  "another type": [
    ...["yes", 1, {}, []].map((value) => ({ createCluster: value })),
    ...["a", true, 1.5, {}].map((value) => ({ maxExpirationSeconds: value })),
    ...["ci", 1, {}].map((value) => ({ createNamespaces: value })),
    ...[TEAM, "team", [], ["team"], [null]].map((value) => ({ serviceAccounts: value })),
    ...["a", 1, []].map((value) => ({ jobPodSpec: value })),
    ...[{}, ["a"]].map((value) => ({ clusterName: value })),
  ],
  "text in an entry that is not a string in the program": [
    ...["true", 1].map((value) => entry({ runJob: value })),
    ...["900", true].map((value) => entry({ tokenExpirationSeconds: value })),
    ...['["a"]', "a"].map((value) => entry({ command: value })),
    ...[777, true].map((value) => entry({ teamName: value })),
    entry({ policyRules: '{"sub":"a"}' }),
  ],
  "an unknown value of a list of choices": [entry({ tokenType: "teams" }), entry({ awsRole: "IRSA" })],
  "a name that Kubernetes, AWS, or Pulumi does not allow": [
    { clusterName: "a b" },
    { image: "pulumi/pulumi:latest" },
    { createNamespaces: ["CI"] },
    { pulumiApiUrl: "http://api.pulumi.com" },
    { permissionsBoundaryArn: "arn:aws:iam::aws:role/a" },
    entry({ teamName: "ci?" }),
    entry({ policyRules: { sub: "*" } }),
  ],
  "an encrypted setting, at any depth": [
    ...["clusterName", "createCluster", "serviceAccounts", "jobPodSpec"].map((name) => ({
      [name]: { secure: "AAA" },
    })),
    entry({ teamName: { secure: "AAA" } }),
    entry({ policyRules: { secure: "AAA" } }),
    podSpec({ value: { secure: "AAA" } }),
    { "aws:region": { secure: "AAA" } },
    { "aws:assumeRoles": [{ roleArn: { secure: "AAA" } }] },
  ],
  "what the Job must not have": [
    { jobPodSpec: { serviceAccountName: "a" } },
    { jobPodSpec: { containers: [{}] } },
  ],
  "what the program would ignore, or cannot pass on": [
    { "pulumiservice:apiUrl": "https://api.pulumi.com" },
    { "aws:accessKey": "AKIA" },
    { "aws:assumeRoles": [{ roleArn: "a", externalId: "b" }] },
    { "aws:assumeRoles": [{ roleArn: "a" }, { roleArn: "b" }] },
  ],
};

/** What `pulumi new` writes has the name of the copy in front of each key, and a user adds keys without it. */
const PROJECTS = ["", "eks-pulumi-oidc", "tokens"];

for (const [verdict, groups] of [
  ["accepts", VALID],
  ["rejects", INVALID],
] as const) {
  for (const [what, changes] of Object.entries(groups)) {
    test(`${verdict}, as the program does, ${what}`, () => {
      for (const change of changes) {
        for (const project of PROJECTS) agreeTo(verdict, change, project);
      }
    });
  }
}

test("rejects, as the program does, an unknown name, and a setting of an entry, if the project has the template's name", () => {
  for (const name of ["clustername", "serviceAccounts[0].name", "teamName"]) {
    for (const project of ["", "eks-pulumi-oidc"]) agreeTo("rejects", { [name]: "a" }, project);
    assert.equal(isStackFile({ config: { [`tokens:${name}`]: "a" } }), true);
  }
});

test("rejects, as `npm start` does, a setting that is not below config:, and accepts the other keys of Pulumi", () => {
  const config = { clusterName: "prod", serviceAccounts: [TEAM] };
  const keys = { environment: ["shared"], secretsprovider: "a", encryptedkey: "b", encryptionsalt: "c" };
  for (const [file, isValid] of [
    [{ ...keys, config }, true],
    [{ ...config, config }, false],
  ] as const) {
    assert.deepEqual([isAccepted(stringify(file), ""), isStackFile(file)], [isValid, isValid]);
  }
});

test("accepts every stack file of the project, and the entry of every manifest", () => {
  const pages = ["README.md", ...readdirSync(join(ROOT, "docs")).map((page) => `docs/${page}`)].filter(
    (path) => path.endsWith(".md"),
  );
  const printed = pages
    .flatMap((page) => codeIn(read(page), "yaml"))
    .filter((text) => /^config:/m.test(text));
  const files = ["Pulumi.dev.yaml", "simulator/sample.yaml"].map(read);
  const ofManifests = EXAMPLES.map((name) =>
    stringify({ config: { serviceAccounts: [exampleOf(name).entry] } }),
  );
  for (const file of [...files, ...printed, ...ofManifests]) {
    assert.equal(isStackFile(parse(file)), true, `${file}\n${ajv.errorsText(isStackFile.errors)}`);
  }
  assert.ok(printed.length > 2);
});

test("the schema is that of the code; `npm run docs` writes it", () => {
  assert.deepEqual(JSON.parse(read("settings/stack.schema.json")), JSON.parse(stackSchema()));
});

test("editors find the schema from each stack file, and from the one in the README", () => {
  const [, complete = ""] = codeIn(read("README.md"), "yaml");
  for (const file of [read("Pulumi.dev.yaml"), complete]) {
    assert.equal(file.split("\n")[0], "# yaml-language-server: $schema=settings/stack.schema.json");
  }
});

/** Asserts that the schema and the program accept, or reject, a valid stack with this change. */
function agreeTo(verdict: "accepts" | "rejects", change: Settings, project: string): void {
  const settings = { clusterName: "prod", serviceAccounts: [TEAM], ...change };
  const file = stringify({ config: withProject(settings, project) });
  const isValid = verdict === "accepts";
  assert.equal(isAccepted(file, project), isValid, `the program ${verdict} this file:\n${file}`);
  assert.equal(isStackFile(parse(file)), isValid, `the schema ${verdict} this file:\n${file}`);
}

/** Returns settings with the name of a project in front of those without a colon; without a name, as they are. */
function withProject(settings: Settings, project: string): Settings {
  const keyOf = (key: string) => (project === "" || key.includes(":") ? key : `${project}:${key}`);
  return Object.fromEntries(Object.entries(settings).map(([key, value]) => [keyOf(key), value]));
}

/** Returns whether `npm start` and the program accept a stack file. */
function isAccepted(file: string, project: string): boolean {
  writeFileSync(join(directory, "Pulumi.yaml"), stringify({ name: project || "eks-pulumi-oidc" }));
  const source = { name: "dev", file: join(directory, "Pulumi.dev.yaml") };
  writeFileSync(source.file, file);
  try {
    const { config: values, ...stack } = readStackFile(directory, source);
    return parseConfig({ ...stack, values, organization: "acme" }).problems.length === 0;
  } catch {
    return false;
  }
}
