// The commands of docs/operator.md, and the patches that it names, on a real API server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { parse, parseAllDocuments, stringify } from "yaml";
import {
  type ApiServer,
  assetPath,
  eventually,
  missingApiServer,
  startApiServer,
} from "../environment/apiServer";
import { podObject } from "../environment/pods";
import { defineStacks } from "../environment/stackResources";
import { missingJq } from "../support/programs";
import { codeIn, commandsWith, ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const STACKS_PATH = "/apis/pulumi.com/v1/namespaces/team-a/stacks";
const RETRY = "pulumi.com/reconciliation-request";
const RBAC = "rbac.authorization.k8s.io";
const TOKEN = `pul-${randomBytes(20).toString("hex")}`;

const PAGE = read("docs/operator.md");

const STORED = {
  PULUMI_ACCESS_TOKEN: { type: "Secret", secret: { name: "pulumi-api-secret", key: "accessToken" } },
};
/** What a Stack has whose exchange is turned off. */
const TURNED_OFF = { PULUMI_CREDENTIAL_HELPER: { type: "Literal", literal: { value: "none" } } };

const WITHOUT_TOKEN = { serviceAccountName: "app" };
const WITH_TOKEN = { ...WITHOUT_TOKEN, accessTokenSecret: "pulumi-api-secret" };

const WORKSPACE = {
  serviceAccountName: "deployer",
  env: [
    { name: "PULUMI_ACCESS_TOKEN", valueFrom: { secretKeyRef: { name: "first", key: "token" } } },
    { name: "PULUMI_ACCESS_TOKEN", value: TOKEN },
  ],
  envFrom: [{ configMapRef: { name: "settings" } }],
  podTemplate: { spec: { containers: [{ name: "pulumi", envFrom: [{ secretRef: { name: "second" } }] }] } },
};

/** Other places where a Stack can have a token. */
const OTHER_STACKS = {
  literals: {
    envRefs: { PULUMI_ACCESS_TOKEN: { type: "Literal", literal: { value: TOKEN } }, A: { type: "Env" } },
  },
  older: { envSecrets: ["environment"], envs: ["variables"] },
  workspace: { workspaceTemplate: { spec: WORKSPACE } },
};

const WITH_OWN_VOLUMES = { spec: { podTemplate: { spec: { volumes: [{ name: "cache", emptyDir: {} }] } } } };

/** How long a script of the page sleeps before it asks again, and in which it would go on. */
const SECONDS_OF_LOOP = 3;

/** What the service account of the Stacks has, besides what is copied. */
const OTHER_ANNOTATIONS = { "argocd.argoproj.io/tracking-id": "team-a:/ServiceAccount:team-a/app" };
const COPIED = {
  annotations: { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/app" },
  imagePullSecrets: [{ name: "registry" }],
};

// Each test continues where the one before it has ended.
describe("the commands of docs/operator.md", { skip: missingApiServer || missingJq }, () => {
  let server: ApiServer;
  /** Where the commands run. */
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "operator-page-"));
    await symlink(join(ROOT, "examples"), join(directory, "examples"));
    server = await startApiServer();
    await defineStacks(server);
    for (const namespace of ["team-a", "team-b"]) await server.createNamespace(namespace);
    for (const name of ["app", "deployer"]) await server.createServiceAccount("team-a", name);
    await create(secret("team-a", "pulumi-api-secret", { accessToken: TOKEN }));
    const shared = secret("team-a", "shared", { PULUMI_ACCESS_TOKEN: TOKEN, AWS_REGION: "us-west-2" });
    await server.kubectl(["apply", "--filename=-"], shared);
    for (const name of ["app", "web"]) await create(stack(name, { ...WITH_TOKEN, envRefs: STORED }));
  });
  after(async () => {
    await server?.close();
    await rm(directory, { recursive: true, force: true });
  });

  const create = (object: object) => server.kubectl(["create", "--filename=-"], object);

  /** Runs the commands of the page that contain a string, and returns what they print. */
  const run = (text: string) => server.shell(commandsWith(PAGE, text), { cwd: directory });

  /** Runs the command of the page that applies a patch to the Stacks in stacks.txt or back.txt. */
  function runPatch(name: string): Promise<string> {
    const [command = "", ...others] = codeIn(PAGE, "bash").filter((it) => RegExp(`/${name}\\s`).test(it));
    assert.match(command, /^xargs -L1 bash examples\/operator\/patch-stacks\.sh .* <(stacks|back)\.txt\n$/);
    assert.deepEqual([...new Set(others)], others.length > 0 ? [command] : []);
    return server.shell(command, { cwd: directory });
  }

  /** Runs commands of the page, while every Stack becomes ready after each change. */
  async function withOperator(commands: Promise<string>): Promise<string> {
    let isRunning = true;
    const reports = (async () => {
      while (isRunning) {
        for (const name of ["app", "web", "job", "volumes"]) await report(name, "ready");
        await sleep(100);
      }
    })();
    try {
      return await commands;
    } finally {
      isRunning = false;
      await reports;
    }
  }

  async function listStacks(...names: string[]): Promise<void> {
    const lines = names.map((name) => `team-a\t${name}\n`).join("");
    for (const file of ["stacks.txt", "back.txt"]) await writeFile(join(directory, file), lines);
  }

  const linesIn = (output: string) => output.split("\n").filter(Boolean).sort();

  /** Returns what a script of the page lists. */
  async function listedBy(name: string): Promise<string[]> {
    const command = `bash examples/operator/${name}`;
    assert.ok(PAGE.includes(command));
    return linesIn(await server.shell(command));
  }

  const stackOf = async (name: string) => (await server.request("GET", `${STACKS_PATH}/${name}`)).body;
  const specOf = async (name: string) => (await stackOf(name)).spec;

  /** Reports the state of a Stack as the operator does: markStackResult in stack_controller.go of pulumi/pulumi-kubernetes-operator. */
  async function report(name: string, state: "updating" | "ready" | "failed"): Promise<void> {
    const { generation } = (await stackOf(name)).metadata ?? {};
    const conditions = [{ type: "Ready", status: state === "ready" ? "True" : "False" }];
    const currentUpdate = state === "updating" ? { name: `${name}-update` } : null;
    const status = { status: { observedGeneration: generation, conditions, currentUpdate } };
    await server.request("PATCH", `${STACKS_PATH}/${name}/status`, status, "application/merge-patch+json");
  }

  /** Patches the Stacks in stacks.txt, and returns the spec of the first one. */
  async function specAfter(patch: string) {
    await withOperator(runPatch(patch));
    return specOf("app");
  }

  test("list what contains a token, without the token, and what reads it from a Secret", async () => {
    const binary = randomBytes(300).toString("base64");
    await create(secret("team-b", "file", { "credentials.json": `{"accessToken":"${TOKEN}"}` }));
    const others = { stringData: { password: "pull-request", encoded: "cHVsLTpull" }, data: { binary } };
    await create(object("v1", "Secret", "team-b", "other", others));
    await create(secret("team-b", "nothing", {}));
    const encoded = Buffer.from(TOKEN).toString("base64");
    const binaryData = { "token.txt": encoded };
    const data = { PULUMI_ACCESS_TOKEN: TOKEN, twice: encoded };
    await create(object("v1", "ConfigMap", "team-b", "variables", { data, binaryData }));
    await create(cronJob("reader", { envFrom: [{ secretRef: { name: "pulumi-api-secret" } }] }));
    await create(cronJob("literal", { env: [{ name: "PULUMI_ACCESS_TOKEN", value: TOKEN }] }));
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await create(stack(name, spec, "team-b"));
    await create(helmRelease("values", { config: { token: TOKEN } }));
    await create(helmRelease("manifest", { manifest: `kind: Secret\ndata:\n  token: ${encoded}\n` }));
    await create(helmRelease("neither", { config: { token: "pul-1" } }));

    assert.deepEqual(await listedBy("find-tokens.sh"), [
      "ConfigMap\tteam-b\tvariables\tPULUMI_ACCESS_TOKEN",
      "ConfigMap\tteam-b\tvariables\ttoken.txt",
      "ConfigMap\tteam-b\tvariables\ttwice",
      "CronJob\tteam-a\tliteral\tspec",
      "Helm\tteam-b\tsh.helm.release.v1.manifest.v1",
      "Helm\tteam-b\tsh.helm.release.v1.values.v1",
      "Secret\tteam-a\tpulumi-api-secret\taccessToken",
      "Secret\tteam-a\tshared\tPULUMI_ACCESS_TOKEN",
      "Secret\tteam-a\tshared\tkubectl.kubernetes.io/last-applied-configuration",
      "Secret\tteam-b\tfile\tcredentials.json",
      "Stack\tteam-b\tliterals\tspec",
      "Stack\tteam-b\tworkspace\tspec",
    ]);
    const readers = ["CronJob\tteam-a\treader", "Stack\tteam-a\tapp", "Stack\tteam-a\tweb"];
    assert.deepEqual(linesIn(await run("deployments,statefulsets")), readers);
  });

  test("list where the Stacks read variables from, by field, and their service accounts", async () => {
    assert.deepEqual(await listedBy("list-variables.sh"), [
      "team-a\tapp\tapp\taccessTokenSecret\tpulumi-api-secret",
      "team-a\tapp\tapp\tenvRefs\tpulumi-api-secret",
      "team-a\tweb\tapp\taccessTokenSecret\tpulumi-api-secret",
      "team-a\tweb\tapp\tenvRefs\tpulumi-api-secret",
      "team-b\tliterals\tdefault\tenvRefs\t(Literal)",
      "team-b\tolder\tdefault\tenvSecrets\tenvironment",
      "team-b\tolder\tdefault\tenvs\tvariables",
      "team-b\tworkspace\tdeployer\tenv\t(Literal)",
      "team-b\tworkspace\tdeployer\tenv\tfirst",
      "team-b\tworkspace\tdeployer\tenvFrom\tsecond",
      "team-b\tworkspace\tdeployer\tenvFrom\tsettings",
    ]);
    await server.kubectl(["delete", "stacks.pulumi.com", "--all", "--namespace=team-b"]);
    await server.kubectl(["delete", "cronjobs", "--all", "--namespace=team-a"]);
  });

  test("write each Stack to all.txt once, first one of them to stacks.txt, and then all others", async () => {
    await run(">all.txt");
    await run("tee first.txt");
    const contentOf = (name: string) => readFile(join(directory, name), "utf8");
    assert.equal(await contentOf("all.txt"), "team-a\tapp\nteam-a\tweb\n");
    assert.equal(await contentOf("stacks.txt"), "team-a\tapp\n");
    await run("-vxFf first.txt");
    assert.equal(await contentOf("stacks.txt"), "team-a\tweb\n");
  });

  test("give each Stack a service account with the permissions and EKS annotations of its present one", async () => {
    const { annotations, imagePullSecrets } = COPIED;
    const account = { metadata: { annotations: { ...annotations, ...OTHER_ANNOTATIONS } }, imagePullSecrets };
    const path = "/api/v1/namespaces/team-a/serviceaccounts";
    await server.request("PATCH", `${path}/app`, account, "application/merge-patch+json");
    const bind = (kind: string, name: string, options: string[]) =>
      server.kubectl(["create", kind, name, ...options]);
    const toDelegator = "--clusterrole=system:auth-delegator";
    await bind("clusterrolebinding", "delegators", [toDelegator, "--serviceaccount=team-a:app"]);
    await bind("clusterrolebinding", "others", ["--clusterrole=edit", "--serviceaccount=team-a:deployer"]);
    const viewers = [
      "--clusterrole=system:aggregate-to-view",
      "--serviceaccount=team-a:app",
      "--namespace=team-b",
    ];
    await bind("rolebinding", "viewers", viewers);
    const subjects = [{ kind: "ServiceAccount", name: "default" }];
    const roleRef = { apiGroup: RBAC, kind: "ClusterRole", name: "system:aggregate-to-edit" };
    await create(object(`${RBAC}/v1`, "RoleBinding", "team-a", "editors", { roleRef, subjects }));
    await create(stack("job", {}));
    await listStacks("app", "web", "job");

    await run("print-service-accounts.sh");
    await run("print-service-accounts.sh"); // as after an interruption
    const { body } = await server.request("GET", `${path}/web`);
    assert.deepEqual(body.imagePullSecrets, imagePullSecrets);
    const { "kubectl.kubernetes.io/last-applied-configuration": _, ...copied } =
      body.metadata?.annotations ?? {};
    assert.deepEqual(copied, annotations);

    const may = (name: string, attributes: object) =>
      server.isAllowed(`system:serviceaccount:team-a:${name}`, [], attributes);
    const reviewTokens = { verb: "create", group: "authentication.k8s.io", resource: "tokenreviews" };
    const view = { verb: "list", resource: "configmaps", namespace: "team-b" };
    const edit = { verb: "create", resource: "configmaps", namespace: "team-a" };
    for (const [name, ...expected] of [
      ["app", true, true, false],
      ["web", true, true, false],
      ["job", false, false, true],
    ] as const) {
      const allowed = [await may(name, reviewTokens), await may(name, view), await may(name, edit)];
      assert.deepEqual(allowed, expected, name);
    }
    // `app` has its service account already.
    const bindings = await server.kubectl(["get", "clusterrolebindings", "--output=name"]);
    assert.deepEqual(bindings.match(/(?<=\/)team-a:.*/g), ["team-a:web:delegators"]);
  });

  test("print nothing for a Stack whose name another service account has", async () => {
    const { serviceAccountName } = WITHOUT_TOKEN;
    await create(stack("deployer", { serviceAccountName }));
    const printed = server.shell("bash examples/operator/print-service-accounts.sh team-a deployer");
    const stderr = /^Service account team-a\/deployer exists, /m;
    await assert.rejects(printed, { code: 255, stdout: "", stderr });
    await server.kubectl(["delete", "stacks.pulumi.com", "deployer", "--namespace=team-a"]);
  });

  test("let each Stack run as the service account with its name", async () => {
    await withOperator(runPatch("service-account.yaml"));
    for (const name of ["app", "web", "job"]) {
      assert.equal((await specOf(name)).serviceAccountName, name);
    }
  });

  test("print an entry for each service account of the listed Stacks, except default", async () => {
    await create(stack("other", { ...WITH_TOKEN, serviceAccountName: "other" }));
    await create(stack("old", { envRefs: STORED }));
    await listStacks("app", "web", "old");
    const command = commandsWith(PAGE, "print-entries.sh stacks.txt").trim();
    for (const [login, owner] of [
      ["", { tokenType: "team", teamName: "team-a" }],
      ["my-machine-user", { tokenType: "personal", userLogin: "my-machine-user" }],
    ] as const) {
      const settings = { createServiceAccount: false, injectToken: false, ...owner };
      const expected = ["app", "web"].map((name) => ({ namespace: "team-a", name, ...settings }));
      assert.deepEqual(parse(await server.shell(`${command} ${login}`, { cwd: directory })), expected);
    }
    for (const name of ["other", "old"]) {
      await server.kubectl(["delete", "stacks.pulumi.com", name, "--namespace=team-a"]);
    }
  });

  test("turn the exchange off in Stacks, also in failed ones, but not in one that is updating, or before the last one is ready", async () => {
    const isTurnedOff = async (name: string) => "PULUMI_CREDENTIAL_HELPER" in (await specOf(name)).envRefs;
    const assertWaits = async (name: string) => {
      await sleep(SECONDS_OF_LOOP * 1000);
      assert.equal(await isTurnedOff(name), false);
    };
    await listStacks("app", "web");
    await report("app", "updating");
    await report("web", "ready");
    const done = runPatch("turn-off.yaml");
    await assertWaits("app");
    await report("app", "failed");
    await eventually("the first Stack is changed", () => isTurnedOff("app"));
    await assertWaits("web");
    await report("app", "ready");
    await eventually("the second Stack is changed", () => isTurnedOff("web"));
    await report("web", "ready");
    await done;
  });

  test("delete the binding, and replace the pods of Stacks, each once its Stack is not updating", async () => {
    const bindings = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings";
    const name = "access-inject-token-0123abcd";
    await server.create(bindings, { metadata: { name }, spec: { policyName: name } });
    const pods = "/api/v1/namespaces/team-a/pods";
    const exists = async (name: string) =>
      (await server.request("GET", `${pods}/${name}-workspace-0`)).status === 200;
    for (const name of ["app", "web"]) {
      await server.create(pods, podObject({ serviceAccountName: "app" }, `${name}-workspace-0`));
    }
    await report("app", "failed");
    await report("web", "updating");
    const done = run("replace-pods.sh");
    await eventually("the first pod is deleted", async () => !(await exists("app")));
    await sleep(SECONDS_OF_LOOP * 1000);
    assert.ok(await exists("web"));
    await report("web", "failed");
    await done;
    assert.ok(!(await exists("web")));
    assert.equal((await server.request("GET", `${bindings}/${name}`)).status, 404);
  });

  test("turn the exchange on again", async () => {
    assert.deepEqual(await specAfter("turn-on.yaml"), { ...WITH_TOKEN, envRefs: STORED });
  });

  test("let the operator retry a failed Stack that has its patch already", async () => {
    await report("app", "failed");
    const done = runPatch("turn-on.yaml");
    const isAsked = async () => RETRY in ((await stackOf("app")).metadata?.annotations ?? {});
    await eventually("a retry is requested", isAsked);
    await withOperator(done);
  });

  test("mount the exchange in each Stack, for its service account, except where it would replace lists", async () => {
    await create(stack("volumes", { ...WITH_TOKEN, workspaceTemplate: WITH_OWN_VOLUMES }));
    await listStacks("app", "volumes", "web");
    await withOperator(runPatch("mount.yaml"));
    assert.deepEqual((await specOf("volumes")).workspaceTemplate, WITH_OWN_VOLUMES);
    for (const name of ["app", "web"]) {
      const { envRefs, ...mounted } = mountOf(name);
      const expected = { ...WITH_TOKEN, serviceAccountName: name, ...mounted };
      assert.deepEqual(await specOf(name), { ...expected, envRefs: { ...STORED, ...envRefs } });
    }
  });

  test("turn a mounted exchange off and on, and take the mount out", async () => {
    const { envRefs, ...mounted } = mountOf("app");
    const turnedOff = { ...WITH_TOKEN, ...mounted, envRefs: { ...STORED, ...TURNED_OFF } };
    assert.deepEqual(await specAfter("turn-off.yaml"), turnedOff);

    const turnOn = "patch-stacks.sh examples/operator/turn-on-mounted.yaml team-a app";
    await withOperator(server.shell(`bash examples/operator/${turnOn}`));
    assert.deepEqual((await specOf("app")).envRefs, { ...STORED, ...envRefs });

    const workspaceTemplate = { spec: { podTemplate: { spec: { containers: [{ name: "pulumi" }] } } } };
    assert.deepEqual(await specAfter("unmount.yaml"), { ...WITH_TOKEN, envRefs: STORED, workspaceTemplate });
    assert.deepEqual((await specOf("volumes")).workspaceTemplate, WITH_OWN_VOLUMES);
  });

  test("take the stored token out of a Stack", async () => {
    const { envRefs, accessTokenSecret } = await specAfter("remove-token.yaml");
    assert.deepEqual([envRefs, accessTokenSecret], [{}, undefined]);
  });

  test("let a Stack without a token use another stored one instead of the exchange", async () => {
    const token = { type: "Secret", secret: { name: "break-glass", key: "PULUMI_ACCESS_TOKEN" } };
    const { envRefs } = await specAfter("break-glass.yaml");
    assert.deepEqual(envRefs, { ...TURNED_OFF, PULUMI_ACCESS_TOKEN: token });
  });

  test("delete the Secret, or only the key of a shared one, and nothing keeps the token", async () => {
    await run("kubectl delete secret");
    await run("kubectl patch secret shared");
    const left = await listedBy("find-tokens.sh");
    assert.deepEqual(
      left.filter((line) => line.includes("\tteam-a\t")),
      [],
    );
    const { body } = await server.request("GET", "/api/v1/namespaces/team-a/secrets/shared");
    assert.deepEqual(Object.keys(body.data), ["AWS_REGION"]);
  });
});

describe("examples/operator/kustomization.yaml", { skip: missingApiServer }, () => {
  test("patches like mount.yaml the Stacks that its target names, and no others", async (t) => {
    const directory = temporaryDirectory(t);
    const kustomization = parse(read("examples/operator/kustomization.yaml"));
    const { spec } = parse(read("examples/operator/mount.yaml"), { version: "1.1" });
    const [{ patch }] = kustomization.patches;
    kustomization.patches[0].patch = stringify({ ...parse(patch), spec });
    const stacks = ["app", "web"].map((name) => stack(name, { ...WITH_TOKEN, envRefs: STORED }));
    await writeFile(
      join(directory, "stacks.yaml"),
      JSON.stringify({ apiVersion: "v1", kind: "List", items: stacks }),
    );
    await writeFile(join(directory, "kustomization.yaml"), stringify(kustomization));

    const { stdout } = await promisify(execFile)(assetPath("kubectl"), ["kustomize", directory]);
    const [app, web] = parseAllDocuments(stdout).map((document) => document.toJS().spec);
    assert.deepEqual(app, { ...WITH_TOKEN, ...spec, envRefs: { ...STORED, ...spec.envRefs } });
    assert.deepEqual(web, { ...WITH_TOKEN, envRefs: STORED });
  });
});

/** Returns the patch mount.yaml for a service account, as kubectl reads it: YAML 1.1, in which 0555 is octal. */
function mountOf(account: string) {
  const patch = read("examples/operator/mount.yaml").replaceAll("SERVICE_ACCOUNT", account);
  return parse(patch, { version: "1.1" }).spec;
}

function object(apiVersion: string, kind: string, namespace: string, name: string, content: object) {
  return { apiVersion, kind, metadata: { namespace, name }, ...content };
}

function stack(name: string, spec: object, namespace = "team-a") {
  return object("pulumi.com/v1", "Stack", namespace, name, { spec });
}

function secret(namespace: string, name: string, stringData: Record<string, string>) {
  return object("v1", "Secret", namespace, name, { stringData });
}

/** Returns a release of Helm, which encodes it once more than Kubernetes. */
function helmRelease(name: string, release: object) {
  const content = gzipSync(JSON.stringify(release)).toString("base64");
  const stored = secret("team-b", `sh.helm.release.v1.${name}.v1`, { release: content });
  return { ...stored, type: "helm.sh/release.v1" };
}

function cronJob(name: string, container: object) {
  const containers = [{ name: "job", image: "example.com/image:1", ...container }];
  const template = { spec: { restartPolicy: "Never", containers } };
  const spec = { schedule: "0 6 * * *", jobTemplate: { spec: { template } } };
  return object("batch/v1", "CronJob", "team-a", name, { spec });
}
