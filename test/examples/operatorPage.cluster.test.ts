// The commands of docs/operator.md on a real API server. Its Stacks have a schema that accepts every field.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { parse } from "yaml";
import {
  type ApiServer,
  assetPath,
  eventually,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { podObject } from "../support/pods";
import { missingProgram, writePrograms } from "../support/programs";
import { codeIn, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const STACKS_PATH = "/apis/pulumi.com/v1/namespaces/default/stacks";
const TOKEN = `pul-${randomBytes(20).toString("hex")}`;

const PAGE = read("docs/operator.md");

const STORED = {
  PULUMI_ACCESS_TOKEN: { type: "Secret", secret: { name: "pulumi-api-secret", key: "accessToken" } },
};
/** What a Stack has for a way back, or while it waits to be moved. */
const HELD_BACK = { PULUMI_CREDENTIAL_HELPER: { type: "Literal", literal: { value: "none" } } };

/** The end of the change.yaml that holds a Stack back, and does nothing else. */
const HOLD_BACK = /value: none \} \}\n$/;

const WITHOUT_TOKEN = { serviceAccountName: "pulumi" };
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

const missingJq = missingProgram("jq", "https://jqlang.org/download/");

// Each test continues where the one before it has ended.
describe("the commands of docs/operator.md", { skip: missingApiServer || missingJq }, () => {
  const directory = temporaryDirectory({ after });
  let server: ApiServer;
  let path: string;

  before(async () => {
    server = await startApiServer();
    path = writePrograms(directory, { kubectl: `exec '${assetPath("kubectl")}' "$@"` });
    await create(STACKS);
    await eventually("Stacks exist", async () => {
      return (await server.request("GET", "/apis/pulumi.com/v1/stacks")).status === 200;
    });
    await server.createNamespace("team-a");
    for (const name of ["pulumi", "other"]) await server.createServiceAccount("default", name);
    await create(secret("default", "pulumi-api-secret", { accessToken: TOKEN }));
    const shared = secret("default", "shared", { PULUMI_ACCESS_TOKEN: TOKEN, AWS_REGION: "us-west-2" });
    await server.kubectl(["apply", "--filename=-"], shared);
    for (const name of ["app", "web"]) await create(stack(name, { ...WITH_TOKEN, envRefs: STORED }));
  });
  after(() => server?.close());

  const create = (object: object) => server.kubectl(["create", "--filename=-"], object);

  /** Runs the command of the page that contains a string, after a change of it, and returns what it prints. */
  function run(text: string, change = (command: string) => command): Promise<string> {
    return execute(change(blockWith("bash", text)));
  }

  async function execute(command: string, ...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(
      "bash",
      ["-euo", "pipefail", "-c", command, "bash", ...args],
      {
        cwd: directory,
        // kubectl keeps its cache in HOME.
        env: { PATH: path, HOME: directory, KUBECONFIG: server.kubeconfig },
      },
    );
    return stdout;
  }

  const linesIn = (output: string) => output.split("\n").filter(Boolean).sort();

  /** Returns what the scripts of the page list. */
  async function linesOfScript(name: string, ...args: string[]): Promise<string[]> {
    assert.ok(blockWith("bash", name).includes([`bash examples/operator/${name}`, ...args].join(" ")));
    return linesIn(await execute(read(`examples/operator/${name}`), ...args));
  }

  const stackOf = async (name: string) => (await server.request("GET", `${STACKS_PATH}/${name}`)).body;
  const specOf = async (name: string) => (await stackOf(name)).spec;

  /** Writes the file change.yaml of the page that contains a string. */
  const writeChange = (text: string | RegExp) =>
    writeFile(join(directory, "change.yaml"), blockWith("yaml", text));

  /** Reports, as the operator does, that the update of a Stack has succeeded. */
  async function reportReady(name: string): Promise<void> {
    const { generation } = (await stackOf(name)).metadata ?? {};
    const conditions = [{ type: "Ready", status: "True" }];
    const status = { status: { observedGeneration: generation, conditions } };
    await server.request("PATCH", `${STACKS_PATH}/${name}/status`, status, "application/merge-patch+json");
  }

  /** Applies the change.yaml of the page that contains a string, without the waits of the loop. Returns the Stack's spec. */
  async function specAfter(text: string | RegExp) {
    await writeChange(text);
    await run("--patch-file", (loop) => `stack=app; ${/kubectl patch .*change\.yaml/.exec(loop)?.[0]}`);
    return specOf("app");
  }

  test("list what contains a token, without the token", async () => {
    const binary = randomBytes(300).toString("base64");
    await create(secret("team-a", "file", { "credentials.json": `{"accessToken":"${TOKEN}"}` }));
    const others = { stringData: { password: "pull-request", encoded: "cHVsLTpull" }, data: { binary } };
    await create(object("v1", "Secret", "team-a", "other", others));
    await create(secret("team-a", "nothing", {}));
    const encoded = Buffer.from(TOKEN).toString("base64");
    const binaryData = { "token.txt": encoded };
    const data = { PULUMI_ACCESS_TOKEN: TOKEN, twice: encoded };
    await create(object("v1", "ConfigMap", "team-a", "variables", { data, binaryData }));
    await create(cronJob("literal", {}, { env: [{ name: "PULUMI_ACCESS_TOKEN", value: TOKEN }] }));
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await create(stack(name, spec, "team-a"));

    assert.deepEqual(await linesOfScript("find-tokens.sh"), [
      "ConfigMap\tteam-a\tvariables\tPULUMI_ACCESS_TOKEN",
      "ConfigMap\tteam-a\tvariables\ttoken.txt",
      "ConfigMap\tteam-a\tvariables\ttwice",
      "CronJob\tdefault\tliteral\tspec",
      "Secret\tdefault\tpulumi-api-secret\taccessToken",
      "Secret\tdefault\tshared\tPULUMI_ACCESS_TOKEN",
      "Secret\tdefault\tshared\tkubectl.kubernetes.io/last-applied-configuration",
      "Secret\tteam-a\tfile\tcredentials.json",
      "Stack\tteam-a\tliterals\tspec",
      "Stack\tteam-a\tworkspace\tspec",
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
      await create({ ...secret("team-a", `sh.helm.release.v1.${name}.v1`, { release: content }), type });
    }
    const names = ["manifest", "values"].map((name) => `Helm\tteam-a\tsh.helm.release.v1.${name}.v1`);
    const found = await linesOfScript("find-tokens.sh");
    assert.deepEqual(
      found.filter((line) => line.startsWith("Helm\t")),
      names,
    );
  });

  test("list where the Stacks read variables from, by field, and their service accounts", async () => {
    assert.deepEqual(await linesOfScript("list-variables.sh"), [
      "default\tapp\tpulumi\taccessTokenSecret\tpulumi-api-secret",
      "default\tapp\tpulumi\tenvRefs\tpulumi-api-secret",
      "default\tweb\tpulumi\taccessTokenSecret\tpulumi-api-secret",
      "default\tweb\tpulumi\tenvRefs\tpulumi-api-secret",
      "team-a\tliterals\tdefault\tenvRefs\t(Literal)",
      "team-a\tolder\tdefault\tenvSecrets\tenvironment",
      "team-a\tolder\tdefault\tenvs\tvariables",
      "team-a\tworkspace\tdeployer\tenv\t(Literal)",
      "team-a\tworkspace\tdeployer\tenv\tfirst",
      "team-a\tworkspace\tdeployer\tenvFrom\tsecond",
      "team-a\tworkspace\tdeployer\tenvFrom\tsettings",
    ]);
    await server.kubectl(["delete", "stacks.pulumi.com", "--all", "--namespace=team-a"]);
    await server.kubectl(["delete", "cronjobs", "--all", "--namespace=default"]);
  });

  test("list the pods of the service account, replace that of the only Stack, and request an update", async () => {
    const pods = "/api/v1/namespaces/default/pods";
    await server.create(pods, podObject({ serviceAccountName: "pulumi" }, "app-workspace-0"));
    await server.create(pods, podObject({ serviceAccountName: "other" }, "other"));
    assert.match(await run("get pods"), /^POD +IMAGES *\napp-workspace-0 +example\.com\/image:1 *\n$/);

    await run("kubectl annotate stacks");
    assert.equal((await server.request("GET", `${pods}/app-workspace-0`)).status, 404);
    assert.ok((await stackOf("app")).metadata?.annotations?.["pulumi.com/reconciliation-request"]);
  });

  test("hold Stacks back, each after the update of the one before", async () => {
    const isHeldBack = async (name: string) => "PULUMI_CREDENTIAL_HELPER" in (await specOf(name)).envRefs;
    await writeChange(HOLD_BACK);
    for (const name of ["app", "web"]) await reportReady(name);
    // The loop of the page, for two Stacks.
    const loop = run("--patch-file", (commands) => commands.replace("in app;", "in app web;"));
    await eventually("the first Stack is changed", () => isHeldBack("app"));
    assert.equal(await isHeldBack("web"), false);
    await reportReady("app");
    await eventually("the second Stack is changed", () => isHeldBack("web"));
    await reportReady("web");
    await loop;
  });

  test("let go of a Stack, mount the exchange in it, hold it back again, and take its stored token out", async () => {
    const released = await specAfter("PULUMI_CREDENTIAL_HELPER: null");
    assert.deepEqual(released, { ...WITH_TOKEN, envRefs: STORED });

    // As kubectl reads it: YAML 1.1, in which 0555 is octal.
    const { envRefs, ...mounted } = parse(blockWith("yaml", "podTemplate"), { version: "1.1" }).spec;
    const moved = await specAfter("podTemplate");
    assert.deepEqual(moved, { ...WITH_TOKEN, ...mounted, envRefs: { ...STORED, ...envRefs } });
    assert.deepEqual(await specAfter(HOLD_BACK), { ...moved, envRefs: { ...STORED, ...HELD_BACK } });
    const withoutToken = await specAfter("accessTokenSecret: null");
    assert.deepEqual(withoutToken, { ...WITHOUT_TOKEN, ...mounted, envRefs: HELD_BACK });
  });

  test("put the stored token back into a Stack that no longer names it, and take it out again", async () => {
    const back = await specAfter(/value: none \} \}\n +PULUMI_ACCESS_TOKEN/);
    assert.deepEqual(back.envRefs, { ...STORED, ...HELD_BACK });
    assert.deepEqual((await specAfter("accessTokenSecret: null")).envRefs, HELD_BACK);
  });

  test("list what still names the Secret", async () => {
    const mounted = { volumes: [{ name: "token", secret: { secretName: "pulumi-api-secret" } }] };
    await create(cronJob("mounts", mounted));
    await create(cronJob("imports", {}, { envFrom: [{ secretRef: { name: "pulumi-api-secret" } }] }));
    await create(cronJob("unrelated", {}, { envFrom: [{ secretRef: { name: "another-secret" } }] }));
    await create(stack("clones", { gitAuthSecret: "pulumi-api-secret" }));
    const listed = ["CronJob/imports", "CronJob/mounts", "Stack/clones", "Stack/web"];
    assert.deepEqual(await linesOfScript("list-users.sh", "pulumi-api-secret", "default"), listed);
  });

  test("delete the Secret, or only the key of a shared one, and nothing keeps the token", async () => {
    await run("kubectl delete secret");
    const left = await linesOfScript("find-tokens.sh");
    assert.deepEqual(
      left.filter((line) => line.includes("\tdefault\t")),
      [],
    );
    const { body } = await server.request("GET", "/api/v1/namespaces/default/secrets/shared");
    assert.deepEqual(Object.keys(body.data), ["AWS_REGION"]);
  });
});

/** Returns the one block of the page in a language that contains a string, or matches a pattern. */
function blockWith(language: string, text: string | RegExp): string {
  const [found, ...others] = codeIn(PAGE, language).filter((block) =>
    typeof text === "string" ? block.includes(text) : text.test(block),
  );
  assert.ok(found && others.length === 0, `one block must contain ${text}`);
  return found;
}

function object(apiVersion: string, kind: string, namespace: string, name: string, content: object) {
  return { apiVersion, kind, metadata: { namespace, name }, ...content };
}

function stack(name: string, spec: object, namespace = "default") {
  return object("pulumi.com/v1", "Stack", namespace, name, { spec });
}

function secret(namespace: string, name: string, stringData: Record<string, string>) {
  return object("v1", "Secret", namespace, name, { stringData });
}

function cronJob(name: string, pod: object, container: object = {}) {
  const containers = [{ name: "job", image: "example.com/image:1", ...container }];
  const template = { spec: { restartPolicy: "Never", containers, ...pod } };
  const spec = { schedule: "0 6 * * *", jobTemplate: { spec: { template } } };
  return object("batch/v1", "CronJob", "default", name, { spec });
}

/** The definition of Stacks, without the operator's schema. */
const SCHEMA = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
const VERSION = { name: "v1", served: true, storage: true, subresources: { status: {} }, schema: SCHEMA };
const STACKS = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "stacks.pulumi.com" },
  spec: {
    group: "pulumi.com",
    names: { kind: "Stack", plural: "stacks" },
    scope: "Namespaced",
    versions: [VERSION],
  },
};
