// The manifests in examples/, and a simulation in which the program has created what their settings ask for.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { types } from "@pulumi/kubernetes";
import { parse, parseAllDocuments } from "yaml";
import { namesServiceAccount } from "../../accessCheck/serviceAccounts";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import type { PodSpec } from "../../simulator/emulators/pod";
import type { Simulation, SimulationOptions } from "../../simulator/emulators/simulation";
import { tokenExchangePod } from "../../tokenExchange";
import { ROOT, read } from "./project";
import { all, only, run, startCluster } from "./stack";

export interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  roleRef?: { kind: string; name: string };
  spec?: {
    template?: { metadata?: { labels?: Record<string, string> }; spec: PodSpec };
    /** Of a CronJob. */
    schedule?: string;
    jobTemplate?: {
      spec: {
        activeDeadlineSeconds?: number;
        ttlSecondsAfterFinished?: number;
        template: { spec: PodSpec };
      };
    };
    /** Of a Stack of the Pulumi Kubernetes Operator. */
    serviceAccountName?: string;
    stack?: string;
    workspaceTemplate?: { spec: { env?: Container["env"]; podTemplate: { spec: PodSpec } } };
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
export interface Entry {
  namespace: string;
  name: string;
  runnerId?: string;
  runnerName?: string;
  tokenAudience?: string;
}

/** The settings in a manifest's header. */
interface HeaderSettings {
  createNamespaces?: string[];
  serviceAccounts: Entry[];
}

interface Example {
  source: string;
  /** Whether a pod has the label that replaces its own lines for the exchange. */
  labeled: boolean;
  settings: HeaderSettings;
  entry: Entry;
  manifests: Manifest[];
}

/** The organization in the examples, which is also that of the stack in these tests. */
export const ORGANIZATION = "acme";

const LABEL = "eks-pulumi-oidc/inject-token";

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
  /** The data of its ConfigMap. */
  settings: Record<string, string>;
  policy: AuthPolicy;
  /** The pod of the Job that tests the exchange. */
  job: PodSpec;
}

export interface ExamplesStack {
  simulation: Simulation;
  /** Of the program. */
  outputs: Record<string, unknown>;
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

/** The manifests in examples/, beside which are programs. */
export const EXAMPLES = readdirSync(join(ROOT, "examples")).filter((file) => file.endsWith(".yaml"));

const examples = new Map(EXAMPLES.map((file) => [file, readExample(file)]));

function readExample(file: string): Example {
  const source = read(`examples/${file}`);
  const header = source.slice(source.indexOf("# config:"), source.indexOf("\napiVersion:"));
  const { config: settings }: { config: HeaderSettings } = parse(header.replaceAll(/^# ?/gm, ""));
  const [entry, ...others] = settings.serviceAccounts;
  assert.ok(entry && others.length === 0, `${file} must name one service account`);
  const manifests = readManifests(source);
  const labeled = manifests.some(({ spec }) => spec?.template?.metadata?.labels?.[LABEL] === "true");
  return { source, labeled, settings, entry, manifests };
}

/** Returns the documents as kubectl reads them: YAML 1.1, in which 0555 is octal. */
export function readManifests(source: string): Manifest[] {
  return parseAllDocuments(source, { version: "1.1" }).map((document) => document.toJS());
}

export function exampleOf(file: string): Example {
  return examples.get(file) ?? assert.fail(`there is no ${file}`);
}

/** Whether the header of a manifest says what the label replaces. */
export function saysWhatToDelete(file: string): boolean {
  const header = exampleOf(file).source.replaceAll(/\n# ?/g, " ");
  return header.includes("delete each line marked (3) with the lines indented below it");
}

/**
 * Deletes each line that is marked (3), and the lines that are indented below it, as the headers say for pods with the label.
 */
export function withoutExchange(source: string): string {
  const kept: string[] = [];
  let deletedBelow: number | undefined;
  for (const line of source.split("\n")) {
    const indentation = line.search(/\S/);
    if (deletedBelow !== undefined && indentation > deletedBelow) continue;

    deletedBelow = undefined;
    if (/^ .*# \(3\)/.test(line)) {
      deletedBelow = indentation;
    } else {
      kept.push(line);
    }
  }
  return kept.join("\n");
}

/**
 * Returns the pod spec of an example with its one container: that of a Stack as the operator completes it, and that of a
 * labeled pod as the admission policies complete it.
 *
 * @param manifests by default, those of the file.
 */
export function podOf(
  file: string,
  manifests = exampleOf(file).manifests,
): { spec: PodSpec; container: Container } {
  for (const {
    spec: { template, jobTemplate, workspaceTemplate, serviceAccountName = "" } = {},
  } of manifests) {
    if (workspaceTemplate) {
      const { env, podTemplate } = workspaceTemplate.spec;
      const [container = assert.fail(`${file} names no container`)] = podTemplate.spec.containers;
      return {
        spec: { ...podTemplate.spec, serviceAccountName },
        container: { ...container, ...(env && { env }) },
      };
    }

    const spec = template?.spec ?? jobTemplate?.spec.template.spec;
    if (!spec) continue;
    const completed = exampleOf(file).labeled ? injected(file, spec) : spec;
    const [container, ...others] = completed.containers;
    if (container && others.length === 0) return { spec: completed, container };
  }
  return assert.fail(`${file} has no pod spec with one container`);
}

/** Returns a pod spec as the admission policies of `injectToken` complete it. */
function injected(file: string, spec: PodSpec): PodSpec {
  const { name, tokenAudience = `urn:pulumi:org:${ORGANIZATION}` } = exampleOf(file).entry;
  return tokenExchangePod(spec, {
    serviceAccountName: name,
    configMap: `${name}-pulumi-token-exchange`,
    tokenAudience,
  }) as PodSpec;
}

/** Returns the settings of a stack with the entries of all examples, which therefore must not collide, and their runners. */
export function settingsOfExamples() {
  const headers = [...examples.values()].map(({ settings }) => settings);
  const serviceAccounts = headers.flatMap((settings) => settings.serviceAccounts);
  const createNamespaces = headers.flatMap((settings) => settings.createNamespaces ?? []);
  const runners = serviceAccounts.flatMap(({ runnerId: id, runnerName: name }) =>
    id && name ? [{ id, name }] : [],
  );
  return { settings: { serviceAccounts, createNamespaces, injectToken: true }, runners };
}

/**
 * Runs the program once with the entries of all examples.
 *
 * @param options override those of the simulation.
 */
export async function startExamplesStack(options: Partial<SimulationOptions> = {}): Promise<ExamplesStack> {
  const { settings, runners } = settingsOfExamples();
  const log: string[] = [];
  const simulation = await startCluster({ runners, onLog: (line) => log.push(line), ...options });
  const stack = await run(simulation, settings).catch(async (error: unknown) => {
    // Its servers would keep the process running.
    await simulation.close();
    throw error;
  });
  function created<Kind extends KubernetesObject>(kind: string, namespace: string, name: string): Kind {
    const isNamed = ({ metadata }: Kind) => metadata.namespace === namespace && metadata.name === name;
    const objects = all<Kind>(stack, kind).map(({ inputs }) => inputs);
    return objects.find(isNamed) ?? assert.fail(`the program created no ${kind} ${namespace}/${name}`);
  }

  return {
    simulation,
    outputs: stack.outputs,
    created,
    createdFor(file) {
      const { namespace, name } = exampleOf(file).entry;
      const { policies } = only<{ policies: AuthPolicy[] }>(stack, "OidcIssuer").inputs;
      const policy = policies.find(({ rules }) => namesServiceAccount(rules, namespace, name));
      return {
        policy: policy ?? assert.fail(`no allow policy for ${namespace}/${name}`),
        job: created<Job>("Job", namespace, `${name}-token-exchange`).spec.template.spec,
        serviceAccount: created<ServiceAccount>("ServiceAccount", namespace, name),
        settings: created<ConfigMap>("ConfigMap", namespace, `${name}-pulumi-token-exchange`).data,
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
