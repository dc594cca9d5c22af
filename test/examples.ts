// The manifests in examples/, and a simulation in which the program has created what their settings ask for.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import { parse, parseAllDocuments } from "yaml";
import type { AuthPolicy } from "../simulator/authPolicy";
import { type Registration, runProgram } from "../simulator/mocks";
import type { PodSpec } from "../simulator/pod";
import { type Simulation, startSimulation } from "../simulator/simulation";

export interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  spec?: {
    template?: { spec: PodSpec };
    jobTemplate?: { spec: { template: { spec: PodSpec } } };
    /** Of a Stack of the Pulumi Kubernetes Operator. */
    stack?: string;
    workspaceTemplate?: { spec: { envFrom: Container["envFrom"]; podTemplate: { spec: PodSpec } } };
    /** Of a SecretStore of the External Secrets Operator. */
    provider?: { pulumi: SecretStoreProvider };
  };
}

export interface SecretStoreProvider {
  organization: string;
  auth: {
    oidcConfig: {
      organization: string;
      serviceAccountRef: { name: string; audiences: string[] };
      expirationSeconds: number;
    };
  };
}

/** The one entry of `serviceAccounts` in a manifest's header. */
export interface Entry {
  namespace: string;
  name: string;
  createNamespace?: boolean;
  runnerId?: string;
  runnerName?: string;
}

export type Container = PodSpec["containers"][number];

/** What the program created for one service account. */
export interface Created {
  serviceAccount: types.output.core.v1.ServiceAccount;
  environment: Record<string, string>;
  policy: AuthPolicy;
  /** The pod of the Job that proves the exchange. */
  job: PodSpec;
}

export interface ExamplesStack {
  simulation: Simulation;
  /** @throws AssertionError if the program created no object of this kind that matches. */
  created<Kind>(kind: string, matches: (inputs: Kind) => boolean): Kind;
  createdFor(file: string): Created;
  /**
   * Runs the pod of an example to its end, as the pod of a Job.
   *
   * @param changes replace fields of its container, such as `command`.
   * @returns its log.
   */
  runPodOf(file: string, changes: Partial<Container>): Promise<string>;
}

export const EXAMPLES = readdirSync(join(__dirname, "..", "examples"));

const examples = new Map(EXAMPLES.map((file) => [file, readExample(file)]));

function readExample(file: string): { entry: Entry; manifests: Manifest[] } {
  const text = readFileSync(join(__dirname, "..", "examples", file), "utf8");
  const header = text.slice(text.indexOf("# config:"), text.indexOf("\napiVersion:"));
  const settings: { config: { serviceAccounts: Entry[] } } = parse(header.replaceAll(/^# ?/gm, ""));
  const [entry, ...others] = settings.config.serviceAccounts;
  assert.ok(entry && others.length === 0, `${file} must name one service account`);
  // kubectl reads YAML 1.1, in which 0555 is octal.
  const documents = parseAllDocuments(text, { version: "1.1" });
  return { entry, manifests: documents.map((document) => document.toJS()) };
}

export function exampleOf(file: string) {
  return examples.get(file) ?? assert.fail(`there is no ${file}`);
}

/** Returns the pod spec of an example with its one container, which in a Stack gets `envFrom` from the operator. */
export function podOf(file: string): { spec: PodSpec; container: Container } {
  for (const { spec: { template, jobTemplate, workspaceTemplate } = {} } of exampleOf(file).manifests) {
    const workspace = workspaceTemplate?.spec;
    const spec = template?.spec ?? jobTemplate?.spec.template.spec ?? workspace?.podTemplate.spec;
    const [container, ...others] = spec?.containers ?? [];
    if (!spec || !container || others.length > 0) continue;
    return { spec, container: { ...container, ...(workspace && { envFrom: workspace.envFrom }) } };
  }
  return assert.fail(`${file} has no pod spec with one container`);
}

/** Runs the program once with the entries of all examples, which therefore must not collide. */
export async function startExamplesStack(): Promise<ExamplesStack> {
  const entries = [...examples.values()].map(({ entry }) => entry);
  const log: string[] = [];
  const simulation = await startSimulation({
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    runners: entries.flatMap(({ runnerId: id, runnerName: name }) => (id && name ? [{ id, name }] : [])),
    registrationMilliseconds: 0,
    onLog: (line) => log.push(line),
  });
  const { registered } = await runProgram(simulation, {
    project: "eks-pulumi-oidc",
    stack: "dev",
    organization: "acme",
    config: {
      "aws:region": "us-west-2",
      "eks-pulumi-oidc:clusterName": "my-cluster",
      "eks-pulumi-oidc:serviceAccounts": JSON.stringify(entries),
    },
  });
  const created: ExamplesStack["created"] = (kind, matches) => findCreated(registered, kind, matches);
  return {
    simulation,
    created,
    createdFor: (file) => createdFor(exampleOf(file).entry, created),
    async runPodOf(file, changes) {
      const { spec, container } = podOf(file);
      const template = {
        spec: { ...spec, restartPolicy: "Never", containers: [{ ...container, ...changes }] },
      };
      const before = log.length;
      const metadata = { namespace: exampleOf(file).entry.namespace, name: `example-${before}` };
      await simulation.resources["kubernetes:batch/v1:Job"]?.create("example", {
        metadata,
        spec: { activeDeadlineSeconds: 60, template },
      });
      return log.slice(before).join("\n");
    },
  };
}

function findCreated<Kind>(registered: Registration[], kind: string, matches: (inputs: Kind) => boolean): Kind {
  const inputs = registered.filter(({ type }) => type.endsWith(`:${kind}`)).map(({ inputs }) => inputs as Kind);
  return inputs.find(matches) ?? assert.fail(`the program created no such ${kind}`);
}

interface Named {
  metadata: { name: string; namespace: string };
}

function createdFor({ namespace, name }: Entry, created: ExamplesStack["created"]): Created {
  const isNamed =
    (wanted: string) =>
    ({ metadata }: Named) =>
      metadata.namespace === namespace && metadata.name === wanted;
  const { policies } = created<{ policies: AuthPolicy[] }>("OidcIssuer", () => true);
  const policy = policies.find(
    ({ rules }) =>
      rules['"kubernetes.io".namespace'] === namespace && rules['"kubernetes.io".serviceaccount.name'] === name,
  );
  const job = created<types.output.batch.v1.Job>(
    "Job",
    ({ metadata, spec }) => metadata.namespace === namespace && spec.template.spec.serviceAccountName === name,
  );
  return {
    policy: policy ?? assert.fail(`no allow policy for ${namespace}/${name}`),
    job: job.spec.template.spec,
    serviceAccount: created<types.output.core.v1.ServiceAccount>("ServiceAccount", isNamed(name)),
    environment: created<types.output.core.v1.ConfigMap>("ConfigMap", isNamed(`${name}-pulumi-token`)).data,
  };
}
