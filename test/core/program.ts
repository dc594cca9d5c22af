// Runs a program with the SDK's mocks: without an engine, a provider, or a network. One store for resources of every kind gives back
// what it gets. The simulator runs the program by it, too.

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { mock } from "node:test";
import tls from "node:tls";
import * as pulumi from "@pulumi/pulumi";
import { DEFAULT_API_URL } from "../../settings/names";
import { failureOf } from "../support/failure";
import { configOf } from "../support/rawSettings";
import { setVariables } from "../support/variables";

/** A resource that a program registers. */
export interface Registered {
  type: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: each type has its own inputs.
  inputs: any;
  /** The URN of an explicit provider; otherwise empty. */
  provider: string;
  options: pulumi.CustomResourceOptions;
}

export interface Run {
  registered: Registered[];
  // biome-ignore lint/suspicious/noExplicitAny: each program has its own outputs.
  outputs: any;
  warnings: string[];
}

/** What a program looks up: the answer of each function, such as `aws:eks/getCluster:getCluster`. */
export type Answers = Record<string, (inputs: Record<string, string>) => object>;

export interface Options {
  /** Names of the project and of the stack. */
  project?: string;
  stack?: string;
  answers?: Answers;
  /** The keys of encrypted settings, such as `project:rolePath`. */
  secretKeys?: string[];
  isPreview?: boolean;
  /** Other outputs of resources, by their labels, such as `Stash first-deployment`. */
  outputs?: Record<string, object>;
  /** Waits before a resource exists. */
  beforeCreation?: (label: string) => Promise<unknown>;
  /** The Pulumi Cloud of the current login. */
  loginUrl?: string;
}

export const ACCOUNT = "123456789012";

/** The issuer of the cluster, as IAM names it. */
export const ISSUER = "oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE";

const getCluster = () => ({
  arn: `arn:aws:eks:us-west-2:${ACCOUNT}:cluster/my-cluster`,
  region: "us-west-2",
  version: "1.36",
  status: "ACTIVE",
  endpoint: "https://endpoint.example",
  certificateAuthorities: [{ data: "authority" }],
  identities: [{ oidcs: [{ issuer: `https://${ISSUER}` }] }],
});

/** An AWS account with the cluster my-cluster, which has an IAM OIDC provider. */
export const ANSWERS = {
  "aws:index/getRegion:getRegion": () => ({ region: "us-west-2" }),
  "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": () => ({
    arn: `arn:aws:iam::${ACCOUNT}:oidc-provider/${ISSUER}`,
  }),
  "aws:eks/getCluster:getCluster": getCluster,
} satisfies Answers;

/** Returns the answers of an AWS account whose cluster has something else. */
export function clusterWith(changes: Partial<ReturnType<typeof getCluster>>): Answers {
  return { ...ANSWERS, "aws:eks/getCluster:getCluster": () => ({ ...getCluster(), ...changes }) };
}

/** Returns what the stack of index.ts registers with these settings on top of the required ones. */
export function runStack(settings: object = {}, options: Options = {}): Promise<Run> {
  const entry = { namespace: "default", name: "app", tokenType: "personal", userLogin: "alice" };
  const required = { "aws:region": "us-west-2", clusterName: "my-cluster", serviceAccounts: [entry] };
  return runProgram(require("../../index"), { ...required, ...settings }, options);
}

/**
 * Runs a program as a stack of the organization acme, by default in an update of `project/dev`.
 *
 * @param settings those without a colon are of the project.
 * @throws what the program stops with.
 */
export async function runProgram(
  program: () => Promise<object>,
  settings: object,
  options: Options = {},
): Promise<Run> {
  const { project = "project", stack = "dev", secretKeys = [], isPreview = false } = options;
  const answers: Answers = options.answers ?? ANSWERS;
  const run: Run = { registered: [], outputs: {}, warnings: [] };
  const optionsOf = new Map<string, pulumi.CustomResourceOptions>();
  const mocks: pulumi.runtime.Mocks = {
    call: ({ token, inputs }) => answers[token]?.(inputs) ?? assert.fail(`${token} has no answer`),
    async newResource({ type, name, inputs, id, provider = "" }) {
      const label = labelOf(type, name);
      await options.beforeCreation?.(label);
      if (type !== "pulumi:pulumi:Stack") {
        // The mocks have URN::ID.
        const providerUrn = provider.replace(/::[^:]*$/, "");
        run.registered.push({
          type,
          name,
          inputs,
          provider: providerUrn,
          options: optionsOf.get(label) ?? {},
        });
      }
      return {
        id: id || `<ID of ${label}>`,
        state: { ...outputsOf(label), ...inputs, ...options.outputs?.[label] },
      };
    },
  };
  const warn = (text: string) => void run.warnings.push(text.replace(/^warning: (\[\w+\] )?/, ""));
  const mocked = [mock.method(console, "warn", warn), mock.method(tls, "connect", connect)];
  const restoreVariables = setVariables({
    PULUMI_ACCESS_TOKEN: "pul-token",
    PULUMI_API: options.loginUrl ?? DEFAULT_API_URL,
  });
  let outputs: object = {};
  const deploy = async () => {
    await pulumi.runtime.setMocks(mocks, project, stack, isPreview, "acme");
    pulumi.runtime.setAllConfig(configOf(project, settings), secretKeys);
    await pulumi.runtime.runInPulumiStack(async () => {
      // Mocks see no options; a transformation of the stack does.
      pulumi.runtime.registerStackTransformation(({ type, name, opts }) => {
        optionsOf.set(labelOf(type, name), opts);
        return undefined;
      });
      outputs = await program();
      return outputs;
    });
    await pulumi.runtime.disconnect();
  };
  try {
    const failure = await firstFailureOf(deploy);
    if (failure) throw Object.assign(failure, { registered: run.registered });
    return { ...run, outputs: await known(outputs) };
  } finally {
    restoreVariables();
    for (const { mock } of mocked) mock.restore();
  }
}

/** Returns the first failure of a program: one failure comes back as many, since every resource that depends on it fails too. */
async function firstFailureOf(deploy: () => Promise<void>): Promise<Error | undefined> {
  const failures: Error[] = [];
  // The test runner would take them for its own.
  const listeners = process.rawListeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection").on("unhandledRejection", (error) => {
    failures.push(error as Error);
  });
  try {
    await deploy().catch((error) => failures.push(error));
    // Node.js reports a rejection a turn later.
    await new Promise(setImmediate);
    return failures[0];
  } finally {
    process.removeAllListeners("unhandledRejection");
    for (const listener of listeners) process.on("unhandledRejection", (...args) => listener(...args));
  }
}

/** Returns the message that a program stops with. The engine prints only the message. @throws if anything is registered before. */
export async function stopOf(running: Promise<Run>): Promise<string> {
  const error: unknown = await failureOf(() => running);
  assert.ok(pulumi.RunError.isInstance(error), String(error));
  assert.deepEqual(Object(error).registered, []);
  return error.message;
}

/** Returns the inputs of the resources of a type, such as `Role`. */
export function inputsOf({ registered }: Run, type: string): Registered["inputs"][] {
  return registered.filter((it) => it.type.endsWith(`:${type}`)).map(({ inputs }) => inputs);
}

/** Returns how the tests name a resource, such as `Role access.team-a.app`. */
export function labelOf(type: string, name: string): string {
  return `${type.split(":").at(-1)} ${name}`;
}

/** Returns the plain value of an input. */
export function known<Value>(value: pulumi.Input<Value>): Promise<Value> {
  return new Promise((resolve) => {
    pulumi.output(value).apply((plain) => resolve(plain as Value));
  });
}

/** Returns the outputs that programs read of a resource, which say whose they are. */
function outputsOf(label: string): object {
  const of = (property: string) => `<${property} of ${label}>`;
  const common = { name: of("name"), arn: of("ARN"), roleId: of("role ID") };
  if (label.startsWith("OpenIdConnectProvider ")) {
    return { ...common, arn: `arn:aws:iam::${ACCOUNT}:oidc-provider/${of("issuer")}` };
  }
  if (!label.startsWith("Cluster ")) return common;
  const eksCluster = {
    name: of("name"),
    arn: `arn:aws:eks:eu-west-1:${ACCOUNT}:cluster/new`,
    endpoint: of("endpoint"),
    certificateAuthority: { data: of("authority") },
  };
  return { eksCluster, oidcProviderUrl: `https://oidc.example/${of("ID")}` };
}

/** Connects to an issuer, which has a certificate. */
function connect(): tls.TLSSocket {
  const getPeerCertificate = () => ({ fingerprint256: "C0:FF:EE" });
  const socket = Object.assign(new EventEmitter(), { getPeerCertificate, destroy() {} });
  setImmediate(() => socket.emit("secureConnect"));
  return socket as unknown as tls.TLSSocket;
}
