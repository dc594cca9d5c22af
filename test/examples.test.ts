// The manifests in examples/, checked against what the program creates for the settings that each one names, and run on the
// emulated cluster.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { types } from "@pulumi/kubernetes";
import { parse, parseAllDocuments } from "yaml";
import type { AuthPolicy } from "../simulator/authPolicy";
import { type Registration, runProgram } from "../simulator/mocks";
import type { PodSpec } from "../simulator/pod";
import { violations } from "../simulator/podSecurity";
import { type Simulation, startSimulation } from "../simulator/simulation";

const PROJECT = "eks-pulumi-oidc";
const EXAMPLES = join(__dirname, "..", "examples");
const FILES = readdirSync(EXAMPLES);
const HELPER_FILES = ["deployment.yaml", "drift-detection.yaml", "pulumi-operator.yaml"];

interface Entry {
  namespace: string;
  name: string;
  createNamespace?: boolean;
  runnerId?: string;
  runnerName?: string;
}

interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  spec: {
    template?: { spec: PodSpec };
    jobTemplate?: { spec: { template: { spec: PodSpec } } };
    /** Of a Stack of the Pulumi Kubernetes Operator. */
    serviceAccountName?: string;
    stack?: string;
    workspaceTemplate?: { spec: { envFrom: Container["envFrom"]; podTemplate: { spec: PodSpec } } };
    /** Of a SecretStore of the External Secrets Operator. */
    provider?: { pulumi: SecretStoreProvider };
  };
}

interface SecretStoreProvider {
  organization: string;
  auth: {
    oidcConfig: {
      organization: string;
      serviceAccountRef: { name: string; audiences: string[] };
      expirationSeconds: number;
    };
  };
}

interface Example {
  entry: Entry;
  manifests: Manifest[];
}

type Container = PodSpec["containers"][number];
type ConfigMap = types.output.core.v1.ConfigMap;
type ServiceAccount = types.output.core.v1.ServiceAccount;
type Job = types.output.batch.v1.Job;

/** What the program created for one service account. */
interface Created {
  serviceAccount: ServiceAccount;
  environment: Record<string, string>;
  policy: AuthPolicy;
  /** The pod of the Job that proves the exchange. */
  job: PodSpec;
}

interface Metadata {
  name: string;
  namespace: string;
}

const examples = new Map(FILES.map((file) => [file, readExample(file)]));
let simulation: Simulation;
let registered: Registration[];
/** What the pods printed. */
const log: string[] = [];

// One stack has the entries of all examples, which therefore must not collide.
before(async () => {
  const entries = [...examples.values()].map(({ entry }) => entry);
  simulation = await startSimulation({
    folder: process.env.SIMULATOR_DIRECTORY,
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    namespaces: entries.filter(({ createNamespace }) => !createNamespace).map(({ namespace }) => namespace),
    runners: entries.flatMap(({ runnerId: id, runnerName: name }) => (id && name ? [{ id, name }] : [])),
    registrationMilliseconds: 0,
    onLog: (line) => log.push(line),
  });
  ({ registered } = await runProgram(simulation, {
    project: PROJECT,
    stack: "dev",
    organization: "acme",
    config: {
      "aws:region": "us-west-2",
      [`${PROJECT}:clusterName`]: "my-cluster",
      [`${PROJECT}:serviceAccounts`]: JSON.stringify(entries),
    },
  }));
});
after(() => simulation.close());

for (const file of FILES) {
  test(`${file} refers only to objects and keys that its settings create`, () => {
    const { manifests } = exampleOf(file);
    const declared = manifests.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`);
    const references = manifests.flatMap(referencesOf);
    assert.ok(references.length > 0);
    for (const { kind, namespace, name, key } of references) {
      if (declared.includes(`${kind} ${namespace}/${name}`)) continue;
      const { data } = created<ConfigMap>(
        kind,
        ({ metadata }) => metadata.namespace === namespace && metadata.name === name,
      );
      if (key) assert.ok(Object.hasOwn(data, key), `${name} has no key ${key}`);
    }
  });

  test(`docs/workloads.md describes ${file}`, () => {
    const docs = readFileSync(join(EXAMPLES, "..", "docs", "workloads.md"), "utf8");
    assert.ok(docs.includes(`(../examples/${file})`));
  });
}

for (const file of HELPER_FILES) {
  test(`${file} gets environment, script, and ID token as the Job of its service account does`, () => {
    const { spec, container } = podOf(file);
    const { environment, serviceAccount, job } = createdFor(file);
    const proven = job.containers[0];
    assert.deepEqual(
      container.envFrom?.map(({ configMapRef }) => configMapRef.name),
      proven?.envFrom.map(({ configMapRef }) => configMapRef.name),
    );
    assert.deepEqual(script(spec, container), script(job, proven));
    assert.equal(script(spec, container)?.mountPath, environment.PULUMI_CREDENTIAL_HELPER);

    assert.ok(serviceAccount.metadata.annotations["eks.amazonaws.com/role-arn"]);
    assert.equal(environment.PULUMI_OIDC_TOKEN_FILE, undefined);
    assert.equal(idToken(spec, container), undefined);
  });
}

for (const file of ["deployment.yaml", "drift-detection.yaml"]) {
  test(`${file} conforms to Pod Security restricted, in a namespace that enforces it`, () => {
    assert.equal(exampleOf(file).entry.createNamespace, true);
    assert.deepEqual(violations(podOf(file).spec), []);
  });

  test(`${file} has a writable home`, () => {
    const { spec, container } = podOf(file);
    const variables = Object.fromEntries(container.env.map(({ name, value }) => [name, value]));
    const home = container.volumeMounts.find(({ mountPath }) => mountPath === variables.HOME);
    assert.ok(spec.volumes.find(({ name }) => name === home?.name)?.emptyDir);
    assert.ok(variables.PULUMI_HOME?.startsWith(`${variables.HOME}/`));
  });

  test(`${file} gets an access token through the credential helper on the emulated cluster`, async () => {
    const { entry } = exampleOf(file);
    const { spec, container } = podOf(file);
    const output = await runInJob(entry.namespace, spec, { ...container, command: ASK_HELPER });
    assert.match(output, /^\{"version":1,"accessToken":"TOKEN","expiresAt":"[^"]+Z"\}$/);

    const { environment } = createdFor(file);
    const { PULUMI_TOKEN_TYPE: type, PULUMI_TOKEN_SCOPE: scope } = environment;
    assert.deepEqual(simulation.pulumiCloud.exchanges.at(-1), {
      status: 200,
      reason: `${type} token, scope ${scope}`,
    });
  });
}

test("the stacks in the examples belong to the organization of the tokens", () => {
  const { PULUMI_ORG } = createdFor("pulumi-operator.yaml").environment;
  const stack = manifest("pulumi-operator.yaml", "Stack").spec.stack;
  const { env } = podOf("drift-detection.yaml").container;
  const drifting = env.find(({ name }) => name === "STACK")?.value;
  for (const name of [stack, drifting]) assert.match(String(name), RegExp(`^${PULUMI_ORG}/[^/]+/[^/]+$`));
});

test("pulumi-operator.yaml mounts the API token and may review tokens, as the operator's agent requires", () => {
  const { spec } = podOf("pulumi-operator.yaml");
  const binding = JSON.stringify(manifest("pulumi-operator.yaml", "ClusterRoleBinding"));
  assert.equal(createdFor("pulumi-operator.yaml").serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
  assert.match(binding, /"roleRef":\{[^}]*"name":"system:auth-delegator"\}/);
});

test("workflow-runner.yaml gives the agent the pool of its policy, and the ID token that the Job has", () => {
  const { spec, container } = podOf("workflow-runner.yaml");
  const { environment, policy, job, serviceAccount } = createdFor("workflow-runner.yaml");
  const variables = Object.fromEntries(
    container.env.map(({ name, value, valueFrom }) => [
      name,
      value ?? environment[valueFrom.configMapKeyRef.key],
    ]),
  );
  assert.deepEqual(variables, {
    PULUMI_AGENT_DEPLOY_TARGET: "kubernetes",
    PULUMI_AGENT_SHARED_VOLUME_DIRECTORY: "/mnt/work",
    PULUMI_AGENT_SERVICE_ACCOUNT_NAME: manifest("workflow-runner.yaml", "ServiceAccount").metadata.name,
    PULUMI_AGENT_RUNNER_POOL_ID: policy.runnerID,
    PULUMI_AGENT_TOKEN_EXPIRATION: `${Number(environment.PULUMI_TOKEN_EXPIRATION) / 3600}h`,
    PULUMI_AGENT_OIDC_TOKEN_FILE: environment.PULUMI_OIDC_TOKEN_FILE,
    PULUMI_AGENT_ORGANIZATION_NAME: "acme",
    PULUMI_AGENT_SERVICE_URL: "https://api.pulumi.com",
  });
  assert.deepEqual(idToken(spec, container), {
    audience: policy.rules.aud,
    file: environment.PULUMI_OIDC_TOKEN_FILE,
  });
  assert.deepEqual(idToken(spec, container), idToken(job, job.containers[0]));
  assert.equal(serviceAccount.automountServiceAccountToken, false);
  assert.equal(spec.automountServiceAccountToken, true);
});

test("external-secrets.yaml names the organization and lifetime of its settings, and its token is granted", async () => {
  const { organization, auth } = secretStore();
  const { serviceAccountRef, expirationSeconds } = auth.oidcConfig;
  const { environment } = createdFor("external-secrets.yaml");
  assert.deepEqual(
    [organization, auth.oidcConfig.organization],
    [environment.PULUMI_ORG, environment.PULUMI_ORG],
  );
  assert.equal(String(expirationSeconds), environment.PULUMI_TOKEN_EXPIRATION);

  assert.equal(await exchangeLikeExternalSecrets(serviceAccountRef.audiences), 200);
  assert.equal(await exchangeLikeExternalSecrets(["sts.amazonaws.com"]), 400);
});

/** What the CLI does first, in a pod. The token does not enter the log. */
const ASK_HELPER = [
  "bash",
  "-euo",
  "pipefail",
  "-c",
  `arguments=$(tr -d '[]"' <<<"$PULUMI_CREDENTIAL_HELPER_ARGS")
  printf '{"version":1,"reason":"initial","selectedBackendUrl":"%s"}' "$PULUMI_BACKEND_URL" |
    "$PULUMI_CREDENTIAL_HELPER" $arguments | sed 's/pul-[0-9a-f]*/TOKEN/'`,
];

/** Runs a pod of an example to its end, as the pod of a Job, and returns its log. */
async function runInJob(namespace: string, spec: PodSpec, container: Container): Promise<string> {
  const before = log.length;
  const template = { spec: { ...spec, restartPolicy: "Never", containers: [container] } };
  await simulation.resources["kubernetes:batch/v1:Job"]?.create("example", {
    metadata: { namespace },
    spec: { activeDeadlineSeconds: 30, template },
  });
  return log.slice(before).join("\n");
}

/**
 * Exchanges a token as the External Secrets Operator does: providers/v1/pulumi/auth_oidc.go and runtime/oidc/token_manager.go
 * in external-secrets/external-secrets. The token names no pod, and the answer here is the HTTP status.
 */
async function exchangeLikeExternalSecrets(audience: string[]): Promise<number> {
  const { oidcConfig } = secretStore().auth;
  const { namespace } = exampleOf("external-secrets.yaml").entry;
  const identity = { namespace, serviceAccount: oidcConfig.serviceAccountRef.name };
  const body = new URLSearchParams({
    audience: `urn:pulumi:org:${oidcConfig.organization}`,
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    requested_token_type: "urn:pulumi:token-type:access_token:organization",
    subject_token: await simulation.issuer.token(identity, { audience }),
    expiration: String(oidcConfig.expirationSeconds),
    scope: "",
  });
  const { status } = await fetch(`${simulation.pulumiCloud.url}/api/oauth/token`, { method: "POST", body });
  return status;
}

function readExample(file: string): Example {
  const text = readFileSync(join(EXAMPLES, file), "utf8");
  const header = text.slice(text.indexOf("# config:"), text.indexOf("\napiVersion:"));
  const settings: { config: { serviceAccounts: Entry[] } } = parse(header.replaceAll(/^# ?/gm, ""));
  const [entry, ...others] = settings.config.serviceAccounts;
  assert.ok(entry && others.length === 0, `${file} names one service account`);
  // kubectl reads YAML 1.1, in which 0555 is octal.
  const documents = parseAllDocuments(text, { version: "1.1" });
  return { entry, manifests: documents.map((document) => document.toJS()) };
}

interface Reference {
  kind: string;
  namespace: string;
  name: string;
  key?: string;
}

/** Finds what a manifest refers to by name: service accounts and ConfigMaps, with the key of the latter where it names one. */
function referencesOf({ metadata, ...manifest }: Manifest): Reference[] {
  const found: Reference[] = [];
  const add = (kind: string, { namespace = metadata.namespace, ...target }: Partial<Reference>) =>
    found.push({ kind, namespace, ...target } as Reference);
  JSON.stringify(manifest, (property, value) => {
    if (property === "serviceAccountName") add("ServiceAccount", { name: value });
    if (property === "serviceAccountRef") add("ServiceAccount", value);
    if (property === "subjects") for (const subject of value) add(subject.kind, subject);
    if (["configMap", "configMapRef", "configMapKeyRef"].includes(property)) add("ConfigMap", value);
    return value;
  });
  return found;
}

function exampleOf(file: string): Example {
  return examples.get(file) ?? assert.fail(`there is no ${file}`);
}

function manifest(file: string, kind: string): Manifest {
  return (
    exampleOf(file).manifests.find((candidate) => candidate.kind === kind) ??
    assert.fail(`${file} has no ${kind}`)
  );
}

function secretStore(): SecretStoreProvider {
  return manifest("external-secrets.yaml", "SecretStore").spec.provider?.pulumi ?? assert.fail("no provider");
}

/** The pod template of an example and its one container; the operator adds `envFrom` to the container named `pulumi`. */
function podOf(file: string): { spec: PodSpec; container: Container } {
  for (const {
    spec: { template, jobTemplate, workspaceTemplate: workspace },
  } of exampleOf(file).manifests) {
    const spec = template?.spec ?? jobTemplate?.spec.template.spec ?? workspace?.spec.podTemplate.spec;
    const [container, ...others] = spec?.containers ?? [];
    if (spec && container && others.length === 0)
      return { spec, container: { ...container, ...(workspace && { envFrom: workspace.spec.envFrom }) } };
  }
  return assert.fail(`${file} has no pod template with one container`);
}

/** Finds an object of the cluster by the resources that the program registered. */
function created<Kind>(kind: string, matches: (inputs: Kind) => boolean): Kind {
  const inputs = registered
    .filter(({ type }) => type.endsWith(`:${kind}`))
    .map(({ inputs }) => inputs as Kind);
  return inputs.find(matches) ?? assert.fail(`the program created no such ${kind}`);
}

function createdFor(file: string): Created {
  const { namespace, name } = exampleOf(file).entry;
  const named =
    (wanted: string) =>
    ({ metadata }: { metadata: Metadata }) =>
      metadata.namespace === namespace && metadata.name === wanted;
  const { policies } = created<{ policies: AuthPolicy[] }>("OidcIssuer", () => true);
  const policy = policies.find(
    ({ rules }) =>
      rules['"kubernetes.io".namespace'] === namespace &&
      rules['"kubernetes.io".serviceaccount.name'] === name,
  );
  assert.ok(policy);
  return {
    policy,
    serviceAccount: created<ServiceAccount>("ServiceAccount", named(name)),
    environment: created<ConfigMap>("ConfigMap", named(`${name}-pulumi-token`)).data,
    job: created<Job>(
      "Job",
      ({ metadata, spec }) =>
        metadata.namespace === namespace && spec.template.spec.serviceAccountName === name,
    ).spec.template.spec,
  };
}

/** The mount of the exchange script, with what its volume says. */
function script({ volumes }: PodSpec, container: Container | undefined) {
  const mount = container?.volumeMounts.find(({ subPath }) => subPath === "entrypoint.sh");
  const volume = volumes.find(({ name }) => name === mount?.name);
  return mount && { mountPath: mount.mountPath, readOnly: mount.readOnly, configMap: volume?.configMap };
}

/** The audience and the path of the ID token that a pod mounts by itself. */
function idToken({ volumes }: PodSpec, container: Container | undefined) {
  for (const { name, mountPath } of container?.volumeMounts ?? []) {
    const sources = volumes.find((volume) => volume.name === name)?.projected?.sources ?? [];
    for (const { serviceAccountToken: token } of sources) {
      if (token) return { audience: token.audience, file: `${mountPath}/${token.path}` };
    }
  }
  return undefined;
}
