// The commands of docs/operator.md, and the patches that it names, on a real API server.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
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
import { defineStacks, patchStack } from "../environment/stackResources";
import { missingJq } from "../support/programs";
import { commandsWith, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const STACKS_PATH = "/apis/pulumi.com/v1/namespaces/team-a/stacks";
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
  workspace: { serviceAccountName: "deployer", workspaceTemplate: { spec: WORKSPACE } },
};

/** How long a script of the page sleeps before it asks again, and in which it would go on. */
const SECONDS_OF_LOOP = 3;

// Each test continues where the one before it has ended.
describe("the commands of docs/operator.md", { skip: missingApiServer || missingJq }, () => {
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    await defineStacks(server);
    for (const namespace of ["team-a", "team-b"]) await server.createNamespace(namespace);
    for (const name of ["app", "deployer"]) await server.createServiceAccount("team-a", name);
    await create(secret("team-a", "pulumi-api-secret", { accessToken: TOKEN }));
    const shared = secret("team-a", "shared", { PULUMI_ACCESS_TOKEN: TOKEN, AWS_REGION: "us-west-2" });
    await server.kubectl(["apply", "--filename=-"], shared);
    for (const name of ["app", "web"]) await create(stack(name, { ...WITH_TOKEN, envRefs: STORED }));
  });
  after(() => server?.close());

  const create = (object: object) => server.kubectl(["create", "--filename=-"], object);

  /** Runs the commands of the page that contain a string, and returns what they print. */
  const run = (text: string) => server.shell(commandsWith(PAGE, text));

  /** Runs a script of the page, which has these first arguments there, and returns what it prints. */
  function runScript(name: string, documented: string[], ...more: string[]): Promise<string> {
    const path = `examples/operator/${name}`;
    assert.ok(PAGE.includes(["bash", path, ...documented].join(" ")));
    return server.shell(`bash ${path} "$@"`, { args: [...documented, ...more] });
  }

  const linesIn = (output: string) => output.split("\n").filter(Boolean).sort();

  /** Returns what a script of the page lists. */
  async function listedBy(name: string): Promise<string[]> {
    return linesIn(await runScript(name, []));
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

  /** Patches a Stack, without the waits of the script, and returns its spec. */
  function specAfter(patch: string) {
    commandsWith(PAGE, `patch-stacks.sh examples/operator/${patch} team-a app`);
    return patchStack(server, patch);
  }

  test("list what contains a token, without the token", async () => {
    const binary = randomBytes(300).toString("base64");
    await create(secret("team-b", "file", { "credentials.json": `{"accessToken":"${TOKEN}"}` }));
    const others = { stringData: { password: "pull-request", encoded: "cHVsLTpull" }, data: { binary } };
    await create(object("v1", "Secret", "team-b", "other", others));
    await create(secret("team-b", "nothing", {}));
    const encoded = Buffer.from(TOKEN).toString("base64");
    const binaryData = { "token.txt": encoded };
    const data = { PULUMI_ACCESS_TOKEN: TOKEN, twice: encoded };
    await create(object("v1", "ConfigMap", "team-b", "variables", { data, binaryData }));
    await create(cronJob("literal", { env: [{ name: "PULUMI_ACCESS_TOKEN", value: TOKEN }] }));
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await create(stack(name, spec, "team-b"));

    assert.deepEqual(await listedBy("find-tokens.sh"), [
      "ConfigMap\tteam-b\tvariables\tPULUMI_ACCESS_TOKEN",
      "ConfigMap\tteam-b\tvariables\ttoken.txt",
      "ConfigMap\tteam-b\tvariables\ttwice",
      "CronJob\tteam-a\tliteral\tspec",
      "Secret\tteam-a\tpulumi-api-secret\taccessToken",
      "Secret\tteam-a\tshared\tPULUMI_ACCESS_TOKEN",
      "Secret\tteam-a\tshared\tkubectl.kubernetes.io/last-applied-configuration",
      "Secret\tteam-b\tfile\tcredentials.json",
      "Stack\tteam-b\tliterals\tspec",
      "Stack\tteam-b\tworkspace\tspec",
    ]);
  });

  test("list the releases of Helm that contain a token", async () => {
    const encoded = Buffer.from(TOKEN).toString("base64");
    for (const [name, release] of Object.entries({
      values: { config: { token: TOKEN } },
      manifest: { manifest: `kind: Secret\ndata:\n  token: ${encoded}\n` },
      neither: { config: { token: "pul-1" } },
    })) {
      // Helm encodes it once more than Kubernetes.
      const content = gzipSync(JSON.stringify(release)).toString("base64");
      const type = "helm.sh/release.v1";
      await create({ ...secret("team-b", `sh.helm.release.v1.${name}.v1`, { release: content }), type });
    }
    const names = ["manifest", "values"].map((name) => `Helm\tteam-b\tsh.helm.release.v1.${name}.v1`);
    const found = await listedBy("find-tokens.sh");
    assert.deepEqual(
      found.filter((line) => line.startsWith("Helm\t")),
      names,
    );
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

  test("list the pods of the service account, replace that of the only Stack, and request an update", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    await server.create(pods, podObject({ serviceAccountName: "app" }, "app-workspace-0"));
    await server.create(pods, podObject({ serviceAccountName: "deployer" }, "deployer"));
    assert.match(await run("get pods"), /^POD +IMAGES *\napp-workspace-0 +example\.com\/image:1 *\n$/);

    await run("kubectl annotate stacks");
    assert.equal((await server.request("GET", `${pods}/app-workspace-0`)).status, 404);
    assert.ok((await stackOf("app")).metadata?.annotations?.["pulumi.com/reconciliation-request"]);
  });

  test("turn the exchange off in Stacks, also in failed ones, but not in one that is updating, or before the last one is ready", async () => {
    const isTurnedOff = async (name: string) => "PULUMI_CREDENTIAL_HELPER" in (await specOf(name)).envRefs;
    const assertWaits = async (name: string) => {
      await sleep(SECONDS_OF_LOOP * 1000);
      assert.equal(await isTurnedOff(name), false);
    };
    await report("app", "updating");
    await report("web", "ready");
    const done = runScript("patch-stacks.sh", ["examples/operator/turn-off.yaml", "team-a", "app"], "web");
    await assertWaits("app");
    await report("app", "failed");
    await eventually("the first Stack is changed", () => isTurnedOff("app"));
    await assertWaits("web");
    await report("app", "ready");
    await eventually("the second Stack is changed", () => isTurnedOff("web"));
    await report("web", "ready");
    await done;
  });

  test("replace the pods of Stacks, each once its Stack is not updating", async () => {
    const pods = "/api/v1/namespaces/team-a/pods";
    const exists = async (name: string) =>
      (await server.request("GET", `${pods}/${name}-workspace-0`)).status === 200;
    for (const name of ["app", "web"]) {
      await server.create(pods, podObject({ serviceAccountName: "app" }, `${name}-workspace-0`));
    }
    await report("app", "failed");
    await report("web", "updating");
    const done = runScript("replace-pods.sh", ["team-a", "app"], "web");
    await eventually("the first pod is deleted", async () => !(await exists("app")));
    await sleep(SECONDS_OF_LOOP * 1000);
    assert.ok(await exists("web"));
    await report("web", "failed");
    await done;
    assert.ok(!(await exists("web")));
  });

  test("turn the exchange on again, mount it, turn it off, and take the stored token out", async () => {
    assert.deepEqual(await specAfter("turn-on.yaml"), { ...WITH_TOKEN, envRefs: STORED });

    // As kubectl reads it: YAML 1.1, in which 0555 is octal.
    const { envRefs, ...mounted } = parse(read("examples/operator/mount.yaml"), { version: "1.1" }).spec;
    const moved = await specAfter("mount.yaml");
    assert.deepEqual(moved, { ...WITH_TOKEN, ...mounted, envRefs: { ...STORED, ...envRefs } });
    assert.deepEqual(await specAfter("turn-off.yaml"), { ...moved, envRefs: { ...STORED, ...TURNED_OFF } });
    const withoutToken = await specAfter("remove-token.yaml");
    assert.deepEqual(withoutToken, { ...WITHOUT_TOKEN, ...mounted, envRefs: TURNED_OFF });
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
  for (const file of ["turn-off.yaml", "mount.yaml"]) {
    test(`patches like ${file} the Stacks that its target names, and no others`, async (t) => {
      const directory = temporaryDirectory(t);
      const kustomization = parse(read("examples/operator/kustomization.yaml"));
      const { spec } = parse(read(`examples/operator/${file}`), { version: "1.1" });
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
  }
});

function object(apiVersion: string, kind: string, namespace: string, name: string, content: object) {
  return { apiVersion, kind, metadata: { namespace, name }, ...content };
}

function stack(name: string, spec: object, namespace = "team-a") {
  return object("pulumi.com/v1", "Stack", namespace, name, { spec });
}

function secret(namespace: string, name: string, stringData: Record<string, string>) {
  return object("v1", "Secret", namespace, name, { stringData });
}

function cronJob(name: string, container: object) {
  const containers = [{ name: "job", image: "example.com/image:1", ...container }];
  const template = { spec: { restartPolicy: "Never", containers } };
  const spec = { schedule: "0 6 * * *", jobTemplate: { spec: { template } } };
  return object("batch/v1", "CronJob", "team-a", name, { spec });
}
