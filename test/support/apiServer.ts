// A real Kubernetes API server for the tests: kube-apiserver and etcd on the loopback address, without controllers or nodes.

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { openCertificateAuthority, simulationDirectory } from "../../simulator/emulators/certificates";
import { listen } from "./loopback";

const START_SECONDS = 120;

/** A user of the API server. Only the administrator has rights from the start. */
export type User = "admin" | "developer";

/** What the API server answers. */
export interface Response {
  status: number;
  /** An object; a Status with a `message` for an error. */
  body: KubernetesObject;
}

export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata?: {
    name?: string;
    namespace?: string;
    uid?: string;
    generation?: number;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  /** Of a Status. */
  message?: string;
  // biome-ignore lint/suspicious/noExplicitAny: every kind of object has its own fields.
  [field: string]: any;
}

export interface ApiServer {
  /** `https://127.0.0.1:PORT`, which is also its service account issuer. */
  url: string;
  /** Signs the ID tokens of service accounts. */
  serviceAccountKey: KeyObject;
  /** The bearer token of a user. */
  tokenOf(user: User): string;
  /** Sends a request as the administrator. */
  request(method: string, path: string, body?: object, contentType?: string): Promise<Response>;
  /** Creates an object. @throws AssertionError with the message of a denial. */
  create(path: string, object: KubernetesObject): Promise<KubernetesObject>;
  /** Creates a namespace with its service account `default`, which a controller creates in a cluster. */
  createNamespace(name: string, labels?: Record<string, string>): Promise<void>;
  createServiceAccount(namespace: string, name: string): Promise<void>;
  /** Runs kubectl as the administrator. @returns its standard output. @throws Error with its standard error. */
  kubectl(args: string[], input?: object): Promise<string>;
  close(): Promise<void>;
}

/** Returns the path of a program that KUBEBUILDER_ASSETS contains. */
export function assetPath(program: "etcd" | "kube-apiserver" | "kubectl"): string {
  return join(process.env.KUBEBUILDER_ASSETS ?? "", program);
}

/** Why the tests are skipped, with the fix; false if the programs are there. */
export const missingApiServer =
  !(["etcd", "kube-apiserver", "kubectl"] as const).every((program) => existsSync(assetPath(program))) &&
  "KUBEBUILDER_ASSETS is not a directory with etcd, kube-apiserver, and kubectl; to build them: .ci/kubernetes DIRECTORY, or to download them: setup-envtest use 1.36.x -p path";

/** Starts an API server with RBAC, Pod Security, and its own service account issuer, whose keys anyone can read. */
export async function startApiServer(): Promise<ApiServer> {
  const directory = await mkdtemp(join(tmpdir(), "api-server-"));
  const processes: Program[] = [];
  async function close() {
    // The API server first: without etcd, it would not end.
    for (const program of processes.reverse()) await stop(program);
    await rm(directory, { recursive: true, force: true });
  }

  try {
    const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
    const url = `https://127.0.0.1:${port}`;
    const tokens = { admin: randomBytes(16).toString("hex"), developer: randomBytes(16).toString("hex") };
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const tls = await (await openCertificateAuthority()).issue({ hosts: ["127.0.0.1"] });
    const write = async (name: string, content: string | Buffer) => {
      const path = join(directory, name);
      await writeFile(path, content, { mode: 0o600 });
      return path;
    };
    const users = [`${tokens.admin},admin,admin,system:masters`, `${tokens.developer},developer,developer`];
    const files = {
      kubeconfig: await write("kubeconfig", kubeconfigOf(url, { token: tokens.admin })),
      users: await write("users.csv", users.join("\n")),
      cert: await write("tls.pem", tls.cert),
      key: await write("tls-key.pem", tls.key),
      signingKey: await write("key.pem", privateKey.export({ type: "pkcs8", format: "pem" })),
      verifyingKey: await write("public.pem", publicKey.export({ type: "spki", format: "pem" })),
    };
    const [etcd, peer] = [`http://127.0.0.1:${etcdPort}`, `http://127.0.0.1:${peerPort}`];
    processes.push(
      start("etcd", {
        "data-dir": join(directory, "etcd"),
        "listen-client-urls": etcd,
        "advertise-client-urls": etcd,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": `default=${peer}`,
        "log-level": "error",
        // Nothing has to survive.
        "unsafe-no-fsync": "true",
      }),
      start("kube-apiserver", {
        "etcd-servers": etcd,
        "bind-address": "127.0.0.1",
        "secure-port": String(port),
        "tls-cert-file": files.cert,
        "tls-private-key-file": files.key,
        "token-auth-file": files.users,
        "authorization-mode": "RBAC",
        "enable-admission-plugins": "PodSecurity",
        // Left to Pod Security, as in EKS.
        "allow-privileged": "true",
        "service-account-issuer": url,
        "service-account-jwks-uri": `${url}/openid/v1/jwks`,
        "service-account-signing-key-file": files.signingKey,
        "service-account-key-file": files.verifyingKey,
        "service-cluster-ip-range": "10.96.0.0/16",
        // The service "kubernetes" cannot have an endpoint on the loopback address.
        "endpoint-reconciler-type": "none",
      }),
    );
    const server = { ...client(url, tokens, files.kubeconfig), serviceAccountKey: privateKey, close };
    await ready(server, processes);
    await allowDiscovery(server);
    return server;
  } catch (error) {
    await close();
    throw error;
  }
}

interface Program {
  name: string;
  child: ChildProcess;
  /** What it has printed. */
  log: Promise<string>;
}

function start(name: "etcd" | "kube-apiserver", options: Record<string, string>): Program {
  const args = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  const child = spawn(assetPath(name), args, { stdio: ["ignore", "ignore", "pipe"] });
  // Also if a test ends this process.
  process.on("exit", () => child.kill("SIGKILL"));
  return { name, child, log: text(child.stderr) };
}

async function stop({ child }: Program): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

function client(
  url: string,
  tokens: Record<User, string>,
  kubeconfig: string,
): Omit<ApiServer, "close" | "serviceAccountKey"> {
  const request: ApiServer["request"] = async (method, path, body, contentType = "application/json") => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { Authorization: `Bearer ${tokens.admin}`, "Content-Type": contentType },
      body: body ? JSON.stringify(body) : null,
    });
    return { status: response.status, body: parse(await response.text()) };
  };

  async function create(path: string, object: KubernetesObject) {
    const { status, body } = await request("POST", path, object);
    assert.ok(status < 300, `POST ${path}: ${body.message}`);
    return body;
  }

  async function createServiceAccount(namespace: string, name: string) {
    await create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } });
  }

  return {
    url,
    tokenOf: (user) => tokens[user],
    request,
    create,
    createServiceAccount,
    async createNamespace(name, labels = {}) {
      await create("/api/v1/namespaces", { metadata: { name, labels } });
      await createServiceAccount(name, "default");
    },
    async kubectl(args, input) {
      const run = promisify(execFile)(assetPath("kubectl"), [...args, `--kubeconfig=${kubeconfig}`]);
      run.child.stdin?.end(input && JSON.stringify(input));
      return (await run).stdout;
    },
  };
}

// Not every answer is JSON, such as that of /readyz.
function parse(content: string): KubernetesObject {
  try {
    return JSON.parse(content);
  } catch {
    return { message: content };
  }
}

/** Waits until the API server is ready. @throws Error with what a program has printed if it ends before. */
async function ready({ request }: ApiServer, processes: Program[]): Promise<void> {
  const deadline = Date.now() + START_SECONDS * 1000;
  while (Date.now() < deadline) {
    for (const { name, child, log } of processes) {
      if (child.exitCode !== null) throw new Error(`${name} has ended:\n${await log}`);
    }
    const { status } = await request("GET", "/readyz").catch(() => ({ status: 0 }));
    if (status === 200) return;
    await sleep(100);
  }
  throw new Error(`The API server is not ready after ${START_SECONDS} s.`);
}

// As in EKS, whose issuers are public.
async function allowDiscovery({ create }: ApiServer): Promise<void> {
  await create("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
    metadata: { name: "anyone:system:service-account-issuer-discovery" },
    roleRef: {
      apiGroup: "rbac.authorization.k8s.io",
      kind: "ClusterRole",
      name: "system:service-account-issuer-discovery",
    },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "system:unauthenticated" }],
  });
}

/** Returns a kubeconfig for an API server, as JSON. @param user such as `{ token }` or `{ exec }`. */
export function kubeconfigOf(url: string, user: object): string {
  const cluster = { server: url, "certificate-authority": join(simulationDirectory(), "ca.pem") };
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "cluster", cluster }],
    users: [{ name: "user", user }],
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
