// The commands of docs/operator.md on a real API server. Its Stacks have a schema that accepts every field.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { parse } from "yaml";
import {
  type ApiServer,
  assetPath,
  eventually,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { missingProgram, writePrograms } from "../support/programs";
import { codeIn, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

const STACKS_PATH = "/apis/pulumi.com/v1/namespaces/default/stacks";
const TOKEN = `pul-${randomBytes(20).toString("hex")}`;

const PAGE = read("docs/operator.md");

const [, PATCH = assert.fail()] = codeIn(PAGE, "yaml");

/** What the patch of step 4 adds, as kubectl reads it: YAML 1.1, in which 0555 is octal. */
const { workspaceTemplate: EXCHANGE } = parse(PATCH, { version: "1.1" }).spec;

const SPEC_BEFORE = {
  serviceAccountName: "pulumi",
  envRefs: {
    PULUMI_ACCESS_TOKEN: { type: "Secret", secret: { name: "pulumi-api-secret", key: "accessToken" } },
  },
};

const WORKSPACE = {
  env: [{ name: "PULUMI_ACCESS_TOKEN", valueFrom: { secretKeyRef: { name: "first", key: "token" } } }],
  envFrom: [{ configMapRef: { name: "settings" } }, { secretRef: { name: "second" } }],
  podTemplate: { spec: { containers: [{ name: "pulumi", envFrom: [{ secretRef: { name: "third" } }] }] } },
};

/** Other places where a Stack can have a token. */
const OTHER_STACKS = {
  literals: { envRefs: { PULUMI_ACCESS_TOKEN: { type: "Literal" }, AWS_REGION: { type: "Literal" } } },
  older: { accessTokenSecret: "pulumi-token", envSecrets: ["environment"], envs: ["variables"] },
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
    path = writePrograms(directory, {
      kubectl: `exec '${assetPath("kubectl")}' "$@"`,
    });
    await apply(STACKS);
    await eventually("Stacks exist", async () => {
      return (await server.request("GET", "/apis/pulumi.com/v1/stacks")).status === 200;
    });
    await server.createNamespace("team-a");
    await apply(secret("default", "pulumi-api-secret", { accessToken: TOKEN }));
    await apply(secret("default", "shared", { PULUMI_ACCESS_TOKEN: TOKEN, AWS_REGION: "us-west-2" }));
    await apply(stack("app", SPEC_BEFORE));
    await writeFile(join(directory, "exchange.yaml"), PATCH);
  });
  after(() => server?.close());

  const apply = (object: object) => server.kubectl(["apply", "--filename=-"], object);

  /** Runs the command of the page that contains a string, and returns what it prints. */
  async function run(text: string): Promise<string> {
    const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", commandWith(text)], {
      cwd: directory,
      // kubectl keeps its cache in HOME.
      env: { PATH: path, HOME: directory, KUBECONFIG: server.kubeconfig },
    });
    return stdout;
  }

  async function linesOf(text: string): Promise<string[]> {
    return (await run(text)).split("\n").filter(Boolean).sort();
  }

  const stackOf = async (name: string) => (await server.request("GET", `${STACKS_PATH}/${name}`)).body;
  const specOf = async (name: string) => (await stackOf(name)).spec;
  const secretOf = (name: string) => server.request("GET", `/api/v1/namespaces/default/secrets/${name}`);

  test("list what contains a token, in a file too, without the token", async () => {
    await apply(secret("team-a", "file", { "credentials.json": `{"accessToken":"${TOKEN}"}` }));
    await apply(secret("team-a", "other", { password: "pull-request", empty: "" }));
    const binary = { data: { key: randomBytes(300).toString("base64") } };
    await apply(object("v1", "Secret", "team-a", "binary", binary));
    await apply(secret("team-a", "nothing", {}));
    await apply(object("v1", "ConfigMap", "team-a", "variables", { data: { PULUMI_ACCESS_TOKEN: TOKEN } }));

    assert.deepEqual(await linesOf("get secrets,configmaps"), [
      "ConfigMap\tteam-a\tvariables\tPULUMI_ACCESS_TOKEN",
      "Secret\tdefault\tpulumi-api-secret\taccessToken",
      "Secret\tdefault\tshared\tPULUMI_ACCESS_TOKEN",
      "Secret\tteam-a\tfile\tcredentials.json",
    ]);
  });

  test("list where the Stacks read variables from, by field, and their service accounts", async () => {
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await apply(stack(name, spec, "team-a"));

    assert.deepEqual(await linesOf("get stacks.pulumi.com --all-namespaces"), [
      "default\tapp\tpulumi\tenvRefs\tpulumi-api-secret",
      "team-a\tliterals\tdefault\tenvRefs\t(in the Stack)",
      "team-a\tolder\tdefault\taccessTokenSecret\tpulumi-token",
      "team-a\tolder\tdefault\tenvSecrets\tenvironment",
      "team-a\tolder\tdefault\tenvs\tvariables",
      "team-a\tworkspace\tdeployer\tenv\tfirst",
      "team-a\tworkspace\tdeployer\tenvFrom\tsecond",
      "team-a\tworkspace\tdeployer\tenvFrom\tsettings",
      "team-a\tworkspace\tdeployer\tenvFrom\tthird",
    ]);
    await server.kubectl(["delete", "stacks.pulumi.com", "--all", "--namespace=team-a"]);
  });

  test("list what names the Secret", async () => {
    const mounted = { volumes: [{ name: "token", secret: { secretName: "pulumi-api-secret" } }] };
    await apply(cronJob("mounts", mounted));
    await apply(cronJob("imports", {}, { envFrom: [{ secretRef: { name: "pulumi-api-secret" } }] }));
    await apply(cronJob("unrelated", {}, { envFrom: [{ secretRef: { name: "another-secret" } }] }));
    await apply(stack("clones", { gitAuthSecret: "pulumi-api-secret" }));

    const names = ["CronJob/imports", "CronJob/mounts", "Stack/app", "Stack/clones"];
    assert.deepEqual(await linesOf("--arg secret"), names);
    await server.kubectl(["delete", "cronjobs", "--all", "--namespace=default"]);
    await server.kubectl(["delete", "stacks.pulumi.com", "clones", "--namespace=default"]);
  });

  test("save the Stack, and replace its stored token with the exchange", async () => {
    await run("> stacks-before.json");
    await run("patch stacks.pulumi.com app");
    // The patch removes what is in `envRefs`, not the object.
    const changed = { ...SPEC_BEFORE, envRefs: {}, workspaceTemplate: EXCHANGE };
    assert.deepEqual(await specOf("app"), { stack: "acme/app/prod", ...changed });
  });

  test("request another update, and report one as successful only if it is that of the changed Stack", async () => {
    await run("kubectl annotate");
    const { annotations, generation = assert.fail() } = (await stackOf("app")).metadata ?? {};
    assert.ok(annotations?.["pulumi.com/reconciliation-request"]);

    for (const [lastUpdate, isReported] of [
      [{ state: "succeeded", generation: generation - 1 }, "false"],
      [{ state: "succeeded", generation }, "true"],
      [{ state: "failed", generation }, "false"],
    ] as const) {
      const status = { status: { lastUpdate } };
      const url = `${STACKS_PATH}/app/status`;
      await server.request("PATCH", url, status, "application/merge-patch+json");
      assert.deepEqual(await linesOf("$generation"), [isReported]);
    }
  });

  test("change the other Stacks of the service account, except those with their own image or lists", async () => {
    const serviceAccountName = "pulumi";
    const env = [{ name: "AWS_REGION", value: "us-west-2" }];
    const image = "registry.example.com/pulumi:3.280.0";
    const specs = {
      web: { serviceAccountName, accessTokenSecret: "pulumi-api-secret" },
      worker: { serviceAccountName, envSecrets: ["shared"] },
      listed: { serviceAccountName, workspaceTemplate: { spec: { env } } },
      pinned: { serviceAccountName, workspaceTemplate: { spec: { image } } },
      another: { serviceAccountName: "deployer" },
    };
    for (const [name, spec] of Object.entries(specs)) await apply(stack(name, spec));

    await run("xargs kubectl patch");
    const exchange = { envRefs: {}, workspaceTemplate: EXCHANGE };
    const changed = {
      ...specs,
      web: { serviceAccountName, ...exchange },
      worker: { ...specs.worker, ...exchange },
    };
    for (const [name, spec] of Object.entries(changed)) {
      assert.deepEqual(await specOf(name), { stack: `acme/${name}/prod`, ...spec });
    }
  });

  test("delete the Secret, or only the key of a shared one", async () => {
    assert.deepEqual(await linesOf("--arg secret"), []);
    await run("kubectl delete secret");
    assert.equal((await secretOf("pulumi-api-secret")).status, 404);
    assert.deepEqual(Object.keys((await secretOf("shared")).body.data), ["AWS_REGION"]);
  });

  test("go back: the saved Stack replaces the changed one", async () => {
    await run("kubectl replace");
    assert.deepEqual(await specOf("app"), { stack: "acme/app/prod", ...SPEC_BEFORE });
  });
});

/** Returns the one command of the page that contains a string. */
function commandWith(text: string): string {
  const [command, ...others] = codeIn(PAGE, "bash").filter((block) => block.includes(text));
  assert.ok(command && others.length === 0, `one command must contain ${text}`);
  return command;
}

function object(apiVersion: string, kind: string, namespace: string, name: string, content: object) {
  return { apiVersion, kind, metadata: { namespace, name }, ...content };
}

function stack(name: string, spec: object, namespace = "default") {
  return object("pulumi.com/v1", "Stack", namespace, name, { spec: { stack: `acme/${name}/prod`, ...spec } });
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
