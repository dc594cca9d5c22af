// What editors and pages say of the settings: the schema of stack files accepts and rejects what the program does, and the
// defaults in the descriptions are those of the program.

import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import Ajv from "ajv";
import { parse, stringify } from "yaml";
import { parseConfig } from "../../config";
import { readStackFile } from "../../simulator/stackFile";
import { declarationsOf, meaningAndDefault } from "../support/declarations";
import { EXAMPLES, exampleOf } from "../support/examples";
import { codeIn, ROOT, read } from "../support/project";
import { rawConfigOf } from "../support/rawSettings";
import { stackSchema } from "../support/stackFileSchema";
import { temporaryDirectory } from "../support/temporaryDirectory";

type Settings = Record<string, unknown>;

const ajv = new Ajv({ strictTypes: false, allowMatchingProperties: true }).addKeyword("patternErrorMessage");
const isStackFile = ajv.compile(JSON.parse(read("settings/stack.schema.json")));

const directory = temporaryDirectory({ after });

const TEAM = { namespace: "ci", name: "app", tokenType: "team", teamName: "ci" };

/** Changes of a valid stack, a line each. Those of `entry` are changes of its one entry. */
const VALID = `
  # Text is what the engine passes.
  createCluster: "false"
  maxExpirationSeconds: "900"
  serviceAccounts: '[{ "namespace": "ci", "name": "app", "tokenType": "organization" }]'
  { jobPodSpec: '{ "priority": 1 }', createNamespaces: '["ci"]' }
  aws:assumeRoles: '[{ "roleArn": "arn:aws:iam::123456789012:role/a" }]'
  { clusterName: 123, organization: true }
  # An empty value counts as not given.
  { organization: "", injectToken: "", createNamespaces: "", image: "", jobPodSpec: "", maxExpirationSeconds: "" }
  { organization: null, injectToken: null, createNamespaces: null, jobPodSpec: null, maxExpirationSeconds: null }
  entry: { runJob: "", awsRole: "", command: "", tokenExpirationSeconds: "", policyRules: "" }
  entry: { runJob: null, awsRole: null, command: null, tokenExpirationSeconds: null, policyRules: null }
  # Every token type.
  entry: { tokenType: personal, userLogin: alice, teamName: null }
  entry: { tokenType: organization, organizationAdmin: true, teamName: null }
  entry: { tokenType: runner, runnerId: a, runnerName: b, teamName: null }
  # Any field of a pod, and any setting of another provider.
  jobPodSpec: { tolerations: [{ key: a, security: true }] }
  { aws:region: us-west-2, aws:defaultTags: { tags: { a: b } }, kubernetes:kubeconfig: { secure: AAA } }
  aws:assumeRoles: [{ roleArn: "arn:aws:iam::123456789012:role/a" }]`;

const INVALID = `
  # Unknown names, and settings of the stack in an entry.
  entry: { teamname: a }
  entry: { image: "a:1" }
  # Required settings of an entry.
  entry: { namespace: null }
  entry: { tokenType: "" }
  serviceAccounts: [{ name: app, tokenType: organization }]
  serviceAccounts: [{ namespace: ci, name: app, tokenType: team }]
  entry: { tokenType: runner, runnerId: a, teamName: null }
  # Other types.
  createCluster: yes
  createCluster: 1
  maxExpirationSeconds: a
  maxExpirationSeconds: 1.5
  createNamespaces: ci
  jobPodSpec: a
  jobPodSpec: []
  clusterName: [a]
  serviceAccounts: { namespace: ci, name: app, tokenType: organization }
  serviceAccounts: []
  serviceAccounts: [team]
  # In an entry, the program reads no text as anything else.
  entry: { runJob: "true" }
  entry: { tokenExpirationSeconds: "900" }
  entry: { command: '["a"]' }
  entry: { teamName: 777 }
  entry: { policyRules: '{ "sub": "a" }' }
  # Values that are not one of the choices, or do not match the pattern.
  entry: { tokenType: teams }
  entry: { awsRole: IRSA }
  entry: { teamName: ci? }
  entry: { policyRules: { sub: "*" } }
  image: pulumi/pulumi:latest
  createNamespaces: [CI]
  permissionsBoundaryArn: arn:aws:iam::123456789012:role/a
  # Encrypted values, at any depth.
  clusterName: { secure: AAA }
  serviceAccounts: { secure: AAA }
  entry: { policyRules: { secure: AAA } }
  jobPodSpec: { secure: AAA }
  jobPodSpec: { tolerations: [{ value: { secure: AAA } }] }
  aws:region: { secure: AAA }
  aws:assumeRoles: [{ roleArn: { secure: AAA } }]
  # What a Job must not have, and what the program would ignore or cannot pass on.
  jobPodSpec: { serviceAccountName: a }
  jobPodSpec: { containers: [{}] }
  pulumiservice:apiUrl: https://api.pulumi.com
  aws:accessKey: AKIA
  aws:assumeRoles: [{ roleArn: a, externalId: b }]
  aws:assumeRoles: [{ roleArn: a }, { roleArn: b }]`;

/** What `pulumi new` writes has the name of the copy in front of each key, and a user adds keys without it. */
const PROJECTS = ["", "eks-pulumi-oidc", "tokens"];

for (const [verdict, lines] of Object.entries({ accepts: VALID, rejects: INVALID })) {
  for (const line of lines.split("\n").filter((line) => /^ +[^# ]/.test(line))) {
    test(`${verdict}, as the program does, ${line.trim()}`, () => {
      const { entry, ...settings } = parse(line);
      const change = entry ? { serviceAccounts: [{ ...TEAM, ...entry }] } : settings;
      for (const project of PROJECTS) agreeTo(verdict, change, project);
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
  assert.deepEqual(verdictsOn({ ...keys, config }, ""), [true, true]);
  assert.deepEqual(verdictsOn({ ...config, config }, ""), [false, false]);
});

test("accepts every stack file of the project, and the entry of every manifest", () => {
  const pages = ["README.md", ...readdirSync(join(ROOT, "docs")).map((page) => `docs/${page}`)];
  const printed = pages
    .filter((path) => path.endsWith(".md"))
    .flatMap((page) => codeIn(read(page), "yaml"))
    .filter((text) => /^config:/m.test(text));
  assert.ok(printed.length > 2);
  const files = [...["Pulumi.dev.yaml", "simulator/sample.yaml"].map(read), ...printed].map((file) =>
    parse(file),
  );
  const ofManifests = EXAMPLES.map((name) => ({ config: { serviceAccounts: [exampleOf(name).entry] } }));
  for (const file of [...files, ...ofManifests]) {
    assert.equal(isStackFile(file), true, `${stringify(file)}\n${ajv.errorsText(isStackFile.errors)}`);
  }
});

test("the schema is that of the code; `npm run docs` writes it", () => {
  assert.deepEqual(JSON.parse(read("settings/stack.schema.json")), JSON.parse(stackSchema()));
});

test("editors find the schema from each stack file, and from the one in the README, which the program accepts", () => {
  const [complete = ""] = codeIn(read("README.md"), "yaml");
  for (const file of [read("Pulumi.dev.yaml"), complete]) {
    assert.equal(file.split("\n")[0], "# yaml-language-server: $schema=settings/stack.schema.json");
  }
  assert.deepEqual(verdictsOn(parse(complete), ""), [true, true]);
});

test("the defaults in the descriptions are those of the program", () => {
  const { config = assert.fail() } = parseConfig(
    rawConfigOf({ clusterName: "CLUSTER_NAME", userLogin: "a" }),
  );
  const [account] = config.access.serviceAccounts;
  const values: Settings = { ...config.cluster, ...config.access, ...account };
  const inWords: Settings = {
    serviceAccounts: "default/pulumi-service-account, if userLogin is set",
    organization: "the organization of the stack",
    tokenExpirationSeconds: "maxExpirationSeconds",
    tokenAudience: "urn:pulumi:org:ORGANIZATION",
    permissionsBoundaryArn: "none",
  };
  const interfaces = ["ClusterSettings", "AccessSettings", "ServiceAccount"];
  for (const { name, comment } of interfaces.flatMap(declarationsOf)) {
    const [, documented] = meaningAndDefault(comment);
    // The defaults of one token type belong to that.
    if (documented === "" || name === "organizationAdmin") continue;
    const value = inWords[name] ?? values[name];
    const expected = typeof value === "string" ? value : JSON.stringify(value);
    assert.equal(documented.split("; ")[0]?.replaceAll("`", ""), expected, name);
  }
});

/** Asserts that the schema and the program accept, or reject, a valid stack with this change. */
function agreeTo(verdict: string, change: Settings, project: string): void {
  const settings = { clusterName: "prod", serviceAccounts: [TEAM], ...change };
  const keyOf = (key: string) => (project === "" || key.includes(":") ? key : `${project}:${key}`);
  const config = Object.fromEntries(Object.entries(settings).map(([key, value]) => [keyOf(key), value]));
  const isValid = verdict === "accepts";
  assert.deepEqual(verdictsOn({ config }, project), [isValid, isValid], stringify({ config }));
}

/** Returns whether `npm start` and the program accept a stack file, and whether the schema does. */
function verdictsOn(content: object, project: string): [program: boolean, schema: boolean] {
  const text = stringify(content);
  writeFileSync(join(directory, "Pulumi.yaml"), stringify({ name: project || "eks-pulumi-oidc" }));
  const source = { name: "dev", file: join(directory, "Pulumi.dev.yaml") };
  writeFileSync(source.file, text);
  let isAccepted = false;
  try {
    const { config: values, ...stack } = readStackFile(directory, source);
    isAccepted = parseConfig({ ...stack, values, organization: "acme" }).problems.length === 0;
  } catch {
    // The file is invalid.
  }
  return [isAccepted, isStackFile(parse(text))];
}
