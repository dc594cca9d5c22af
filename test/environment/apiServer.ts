// A real Kubernetes API server for the tests: kube-apiserver and etcd on the loopback address, without controllers or nodes.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { listen } from "../support/endpoint";
import { ROOT } from "../support/project";
import { authorityOfTests, requestTls } from "../support/tls";

const DEADLINE_SECONDS = 120;

export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata?: {
    name?: string;
    namespace?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  /** Of a Status. */
  message?: string;
  // biome-ignore lint/suspicious/noExplicitAny: every kind of object has its own fields.
  [field: string]: any;
}

export type ApiServer = Awaited<ReturnType<typeof startApiServer>>;

/** Returns the path of a program that KUBEBUILDER_ASSETS contains. */
export function assetPath(program: "etcd" | "kube-apiserver" | "kubectl"): string {
  return join(process.env.KUBEBUILDER_ASSETS ?? "", program);
}

/** Why the tests are skipped, with the fix; false if the programs are there. */
export const missingApiServer =
  !(["etcd", "kube-apiserver", "kubectl"] as const).every((program) => existsSync(assetPath(program))) &&
  "KUBEBUILDER_ASSETS is not a directory with etcd, kube-apiserver, and kubectl; to build them: .ci/kubernetes DIRECTORY, or to download them: setup-envtest use 1.36.x -p path";

/**
 * Starts an API server with RBAC, Pod Security, and its own service account issuer, whose keys anyone can read.
 *
 * @param issuerFlags its flags for another issuer, whose keys are published elsewhere.
 */
export async function startApiServer(issuerFlags?: Record<string, string>) {
  const directory = await mkdtemp(join(tmpdir(), "api-server-"));
  const processes: ReturnType<typeof start>[] = [];
  async function close() {
    for (const { child } of processes) child.kill("SIGKILL");
    await Promise.all(processes.map(({ ended }) => ended));
    await rm(directory, { recursive: true, force: true });
  }

  try {
    const [etcdPort, port] = [await freePort(), await freePort()];
    const url = `https://127.0.0.1:${port}`;
    const adminToken = randomBytes(16).toString("hex");
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const authority = await authorityOfTests();
    const tls = await authority.issue("127.0.0.1");
    const write = async (name: string, content: string) => {
      const path = join(directory, name);
      await writeFile(path, content, { mode: 0o600 });
      return path;
    };
    const key = await write("key.pem", String(privateKey.export({ type: "pkcs8", format: "pem" })));
    const etcd = `http://127.0.0.1:${etcdPort}`;
    processes.push(
      start("etcd", {
        "data-dir": join(directory, "etcd"),
        "listen-client-urls": etcd,
        "advertise-client-urls": etcd,
        // It has no peers.
        "listen-peer-urls": "http://127.0.0.1:0",
        "log-level": "error",
        // Nothing has to survive.
        "unsafe-no-fsync": "true",
      }),
      start("kube-apiserver", {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "secure-port": String(port),
        "tls-cert-file": await write("tls.pem", tls.cert),
        "tls-private-key-file": await write("tls-key.pem", tls.key),
        "token-auth-file": await write("users.csv", `${adminToken},admin,admin,system:masters`),
        "authorization-mode": "RBAC",
        "enable-admission-plugins": "PodSecurity",
        // Left to Pod Security, as in EKS.
        "allow-privileged": "true",
        ...(issuerFlags ?? {
          "service-account-issuer": url,
          "service-account-jwks-uri": `${url}/openid/v1/jwks`,
        }),
        "service-account-signing-key-file": key,
        "service-account-key-file": key,
        "service-cluster-ip-range": "10.96.0.0/16",
        // The service "kubernetes" cannot have an endpoint on the loopback address.
        "endpoint-reconciler-type": "none",
      }),
    );
    const kubeconfig = await write("kubeconfig", kubeconfigOf(url, adminToken, authority.file));
    const server = { ...client(url, adminToken, kubeconfig), close };
    await ready(server, processes);
    // As in EKS, whose issuers are public.
    const role = "--clusterrole=system:service-account-issuer-discovery";
    const binding = ["create", "clusterrolebinding", "anyone", "--group=system:unauthenticated", role];
    await server.kubectl(binding);
    return server;
  } catch (error) {
    await close();
    throw error;
  }
}

/** Starts a program. `ended` is what it has printed, once it has ended. */
function start(name: "etcd" | "kube-apiserver", options: Record<string, string>) {
  const args = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  const child = spawn(assetPath(name), args, { stdio: ["ignore", "ignore", "pipe"] });
  // Also if a test ends this process.
  process.on("exit", () => child.kill("SIGKILL"));
  return { child, ended: text(child.stderr) };
}

function client(url: string, token: string, kubeconfig: string) {
  /** Sends a request as the administrator. @returns an object; for an error, a Status with a `message`. */
  async function request(method: string, path: string, object?: object, contentType = "application/json") {
    const { status, content } = await requestTls(`${url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": contentType },
      ...(object && { body: JSON.stringify(object) }),
    });
    // Not every answer is JSON, such as that of /readyz.
    const body: KubernetesObject = content.startsWith("{") ? JSON.parse(content) : {};
    return { status, body };
  }

  /** Creates an object. @throws AssertionError with the message of a denial. */
  async function create(path: string, object: KubernetesObject) {
    const { status, body } = await request("POST", path, object);
    assert.ok(status < 300, `POST ${path}: ${body.message}`);
    return body;
  }

  async function createServiceAccount(namespace: string, name: string) {
    await create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
  }

  return {
    /** `https://127.0.0.1:PORT`, which is also its service account issuer, unless it has another one. */
    url,
    request,
    create,
    createServiceAccount,
    /** Returns whether RBAC allows a user with these groups what `resourceAttributes` say. */
    async isAllowed(user: string, groups: string[], resourceAttributes: object): Promise<boolean> {
      const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
      return (await create(path, { spec: { user, groups, resourceAttributes } })).status.allowed;
    },
    /** Creates a namespace with its service account `default`, which a controller creates in a cluster. */
    async createNamespace(name: string, labels: Record<string, string> = {}) {
      await create("/api/v1/namespaces", { metadata: { name, labels } });
      await createServiceAccount(name, "default");
    },
    /** Runs kubectl as the administrator. @returns its standard output. @throws Error with its standard error. */
    async kubectl(args: string[], input?: object) {
      const options = { maxBuffer: 2 ** 24 };
      const run = promisify(execFile)(assetPath("kubectl"), [...args, `--kubeconfig=${kubeconfig}`], options);
      run.child.stdin?.end(input && JSON.stringify(input));
      return (await run).stdout;
    },
    /** Runs commands of a page, as the administrator. @returns their standard output. @throws Error with their standard error. */
    async shell(commands: string, { input, cwd = ROOT }: { input?: string | undefined; cwd?: string } = {}) {
      const PATH = `${dirname(assetPath("kubectl"))}:${process.env.PATH}`;
      // kubectl keeps its cache in HOME.
      const env = { PATH, HOME: dirname(kubeconfig), KUBECONFIG: kubeconfig };
      const run = promisify(execFile)("bash", ["-euo", "pipefail", "-c", commands], { cwd, env });
      run.child.stdin?.end(input);
      return (await run).stdout;
    },
  };
}

/** Waits until the API server is ready. @throws Error with what a program has printed if it ends before. */
async function ready({ request }: ApiServer, processes: ReturnType<typeof start>[]): Promise<void> {
  await eventually("the API server is ready", async () => {
    for (const { child, ended } of processes) {
      if (child.exitCode !== null) throw new Error(`${child.spawnfile} has ended:\n${await ended}`);
    }
    const { status } = await request("GET", "/readyz").catch(() => ({ status: 0 }));
    return status === 200;
  });
}

/** Waits for a condition. @throws AssertionError after two minutes. */
export async function eventually(what: string, condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + DEADLINE_SECONDS * 1000;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${DEADLINE_SECONDS} s: ${what}`);
    await sleep(100);
  }
}

/** Returns a kubeconfig for an API server, as JSON. */
function kubeconfigOf(url: string, token: string, authority: string): string {
  const cluster = { server: url, "certificate-authority": authority };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "cluster", cluster }],
    users: [{ name: "user", user: { token } }],
    contexts: [{ name: "context", context: { cluster: "cluster", user: "user" } }],
    "current-context": "context",
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  return port;
}
