// The manifests in examples/, and a simulation in which the program has created what their settings ask for.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import { parse, parseAllDocuments } from "yaml";
import type { AuthPolicy } from "../simulator/emulators/authPolicy";
import type { PodSpec } from "../simulator/emulators/pod";
import { type Simulation, startSimulation } from "../simulator/emulators/simulation";
import { all, only, run } from "./stack";

export interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  roleRef?: { kind: string; name: string };
  spec?: {
    template?: { spec: PodSpec };
    jobTemplate?: { spec: { template: { spec: PodSpec } } };
    /** Of a Stack of the Pulumi Kubernetes Operator. */
    serviceAccountName?: string;
    stack?: string;
    workspaceTemplate?: { spec: { envFrom: Container["envFrom"]; podTemplate: { spec: PodSpec } } };
    /** Of a SecretStore of the External Secrets Operator. */
    provider?: { pulumi: { organization: string; auth: { oidcConfig: OidcConfig } } };
  };
}

interface OidcConfig {
  organization: string;
  serviceAccountRef: { name: string; audiences: string[] };
  expirationSeconds: number;
}

/** The one entry of `serviceAccounts` in a manifest's header. */
interface Entry {
  namespace: string;
  name: string;
  createNamespace?: boolean;
  runnerId?: string;
  runnerName?: string;
}

export type Container = PodSpec["containers"][number];

interface KubernetesObject {
  metadata: { namespace: string; name: string };
  /** Of a ConfigMap. */
  data?: object;
}

type ConfigMap = types.output.core.v1.ConfigMap;
type Job = types.output.batch.v1.Job;
type ServiceAccount = types.output.core.v1.ServiceAccount;

/** What the program created for one service account. */
interface Created {
  serviceAccount: ServiceAccount;
  environment: Record<string, string>;
  policy: AuthPolicy;
  /** The pod of the Job that tests the exchange. */
  job: PodSpec;
}

export interface ExamplesStack {
  simulation: Simulation;
  /** @throws AssertionError if the program did not create this object. */
  created(kind: string, namespace: string, name: string): KubernetesObject;
  createdFor(file: string): Created;
  /**
   * Runs the pod of an example, as the pod of a Job, and returns its log.
   *
   * @param changes replace fields of its container, such as `command`.
   */
  runPodOf(file: string, changes: Partial<Container>): Promise<string>;
}

export const EXAMPLES = readdirSync(join(__dirname, "..", "examples"));

const examples = new Map(EXAMPLES.map((file) => [file, readExample(file)]));

function readExample(file: string): { entry: Entry; manifests: Manifest[] } {
  const source = readFileSync(join(__dirname, "..", "examples", file), "utf8");
  const header = source.slice(source.indexOf("# config:"), source.indexOf("\napiVersion:"));
  const settings: { config: { serviceAccounts: Entry[] } } = parse(header.replaceAll(/^# ?/gm, ""));
  const [entry, ...others] = settings.config.serviceAccounts;
  assert.ok(entry && others.length === 0, `${file} must name one service account`);
  // kubectl reads YAML 1.1, in which 0555 is octal.
  const documents = parseAllDocuments(source, { version: "1.1" });
  return { entry, manifests: documents.map((document) => document.toJS()) };
}

export function exampleOf(file: string) {
  return examples.get(file) ?? assert.fail(`there is no ${file}`);
}

/** Returns the pod spec of an example with its one container; that of a Stack as the operator completes it. */
export function podOf(file: string): { spec: PodSpec; container: Container } {
  const { manifests } = exampleOf(file);
  for (const { spec: { template, jobTemplate, workspaceTemplate, serviceAccountName = "" } = {} } of manifests) {
    const workspace = workspaceTemplate?.spec;
    const spec = template?.spec ?? jobTemplate?.spec.template.spec ?? workspace?.podTemplate.spec;
    const [container, ...others] = spec?.containers ?? [];
    if (!spec || !container || others.length > 0) continue;
    if (!workspace) return { spec, container };
    return { spec: { ...spec, serviceAccountName }, container: { ...container, envFrom: workspace.envFrom } };
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
    runsPodSpecs: true,
    onLog: (line) => log.push(line),
  });
  const stack = await run(simulation, { serviceAccounts: entries }).catch(async (error: unknown) => {
    // Its servers would keep the process running.
    await simulation.close();
    throw error;
  });
  return {
    simulation,
    created: (kind, namespace, name) => {
      const isNamed = ({ metadata }: KubernetesObject) => metadata.namespace === namespace && metadata.name === name;
      const objects = all<KubernetesObject>(stack, kind).map(({ inputs }) => inputs);
      return objects.find(isNamed) ?? assert.fail(`the program created no ${kind} ${namespace}/${name}`);
    },
    createdFor(file) {
      const { namespace, name } = exampleOf(file).entry;
      const { policies } = only<{ policies: AuthPolicy[] }>(stack, "OidcIssuer").inputs;
      const id = `${namespace}.${name}`;
      const idOf = (rules: AuthPolicy["rules"]) =>
        `${rules['"kubernetes.io".namespace']}.${rules['"kubernetes.io".serviceaccount.name']}`;
      return {
        policy: policies.find(({ rules }) => idOf(rules) === id) ?? assert.fail(`no allow policy for ${id}`),
        job: only<Job>(stack, "Job", id).inputs.spec.template.spec,
        serviceAccount: only<ServiceAccount>(stack, "ServiceAccount", id).inputs,
        environment: only<ConfigMap>(stack, "ConfigMap", `${id}.pulumi-token`).inputs.data,
      };
    },
    async runPodOf(file, changes) {
      const { spec, container } = podOf(file);
      const pod = { ...spec, restartPolicy: "Never", containers: [{ ...container, ...changes }] };
      const before = log.length;
      const metadata = { namespace: exampleOf(file).entry.namespace, name: `example-${before}` };
      await simulation.resources["kubernetes:batch/v1:Job"]?.create("example", {
        metadata,
        spec: { activeDeadlineSeconds: 60, template: { spec: pod } },
      });
      return log.slice(before).join("\n");
    },
  };
}
