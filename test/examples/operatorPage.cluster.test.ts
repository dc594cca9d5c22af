// The commands of docs/operator.md on a real API server. Its Stacks have a schema that accepts every field.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "../../tokenVolume";
import {
  type ApiServer,
  assetPath,
  type KubernetesObject,
  kubeconfigOf,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { commandWith, SPEC_AFTER, SPEC_BEFORE } from "../support/operatorPage";
import { eventually } from "../support/pods";
import { writePrograms } from "../support/programs";
import { temporaryDirectory } from "../support/temporaryDirectory";

const STACKS_PATH = "/apis/pulumi.com/v1/namespaces/default/stacks";
const TOKEN = `pul-${randomBytes(20).toString("hex")}`;

/** The Stack before its image is changed. */
const { workspaceTemplate: _, ...SPEC_AT_FIRST } = SPEC_BEFORE;

/** What `pulumi stack output serviceAccounts --json` prints of the service account. */
const ACCESS = {
  env: [CREDENTIAL_HELPER],
  volume: tokenVolume("pulumi-pulumi-token-exchange", "urn:pulumi:org:acme"),
  volumeMount: VOLUME_MOUNT,
};

const LITERAL = { type: "Literal", literal: { value: "token" } };

const WORKSPACE = {
  env: [{ name: "PULUMI_ACCESS_TOKEN", valueFrom: { secretKeyRef: { name: "first", key: "token" } } }],
  envFrom: [{ configMapRef: { name: "settings" } }, { secretRef: { name: "second" } }],
  podTemplate: { spec: { containers: [{ name: "pulumi", envFrom: [{ secretRef: { name: "third" } }] }] } },
};

/** Where else a Stack can have a token, by the name of the Stack. */
const OTHER_STACKS = {
  older: { accessTokenSecret: "pulumi-token" },
  oldest: { envSecrets: ["environment"], envs: ["variables"] },
  literal: { envRefs: { PULUMI_ACCESS_TOKEN: LITERAL } },
  workspace: { serviceAccountName: "deployer", workspaceTemplate: { spec: WORKSPACE } },
  none: { envRefs: { AWS_REGION: LITERAL } },
};

describe("the commands of docs/operator.md", { skip: missingApiServer }, () => {
  const directory = temporaryDirectory({ after });
  let server: ApiServer;
  let path: string;

  before(async () => {
    server = await startApiServer();
    const kubeconfig = kubeconfigOf(server.url, { token: server.tokenOf("admin") });
    await writeFile(join(directory, "kubeconfig"), kubeconfig, { mode: 0o600 });
    path = writePrograms(directory, {
      kubectl: `exec '${assetPath("kubectl")}' "$@"`,
      pulumi: `cat <<'END'\n${JSON.stringify({ "default/pulumi": ACCESS })}\nEND`,
    });
    await apply(STACKS);
    await eventually("Stacks exist", async () => {
      return (await server.request("GET", "/apis/pulumi.com/v1/stacks")).status === 200;
    });
    await server.createNamespace("team-a");
    await apply(secret("default", "pulumi-api-secret", { accessToken: TOKEN }));
    await apply(secret("default", "shared", { PULUMI_ACCESS_TOKEN: TOKEN, AWS_REGION: "us-west-2" }));
    await apply(stack("app", SPEC_AT_FIRST, "default"));
  });
  after(() => server?.close());

  const apply = (object: object) => server.kubectl(["apply", "--filename=-"], object);

  /** Runs the command of the page that contains a string, and returns what it prints. */
  async function run(text: string, input = ""): Promise<string> {
    const running = promisify(execFile)("bash", ["-euo", "pipefail", "-c", commandWith(text)], {
      cwd: directory,
      // kubectl keeps its cache in HOME.
      env: { PATH: path, HOME: directory, KUBECONFIG: join(directory, "kubeconfig") },
    });
    running.child.stdin?.end(input);
    return (await running).stdout;
  }

  async function linesOf(text: string): Promise<string[]> {
    return (await run(text)).split("\n").filter(Boolean).sort();
  }

  const stackOf = async (name: string) => (await server.request("GET", `${STACKS_PATH}/${name}`)).body;
  const specOf = async (name: string) => (await stackOf(name)).spec;
  const secretOf = (name: string) => server.request("GET", `/api/v1/namespaces/default/secrets/${name}`);

  test("list what contains a token, in a file too, without the token", async () => {
    const credentials = JSON.stringify({ accounts: { "https://api.pulumi.com": { accessToken: TOKEN } } });
    await apply(secret("team-a", "file", { "credentials.json": credentials }));
    await apply(secret("team-a", "other", { password: "pull-request", empty: "" }));
    await apply({ ...secret("team-a", "binary", {}), data: { key: randomBytes(300).toString("base64") } });
    await apply(secret("team-a", "nothing", {}));
    const metadata = { namespace: "team-a", name: "variables" };
    await apply({ apiVersion: "v1", kind: "ConfigMap", metadata, data: { PULUMI_ACCESS_TOKEN: TOKEN } });

    assert.deepEqual(await linesOf("get secrets,configmaps"), [
      "ConfigMap\tteam-a\tvariables\tPULUMI_ACCESS_TOKEN",
      "Secret\tdefault\tpulumi-api-secret\taccessToken",
      "Secret\tdefault\tshared\tPULUMI_ACCESS_TOKEN",
      "Secret\tteam-a\tfile\tcredentials.json",
    ]);
  });

  test("list where the Stacks read variables from, by field, and their service accounts", async () => {
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await apply(stack(name, spec));

    assert.deepEqual(await linesOf("get stacks.pulumi.com --all-namespaces"), [
      "default\tapp\tpulumi\tenvRefs\tpulumi-api-secret",
      "team-a\tliteral\tdefault\tenvRefs\t(in the Stack)",
      "team-a\tolder\tdefault\taccessTokenSecret\tpulumi-token",
      "team-a\toldest\tdefault\tenvSecrets\tenvironment",
      "team-a\toldest\tdefault\tenvs\tvariables",
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
    await apply(stack("clones", { gitAuthSecret: "pulumi-api-secret" }, "default"));

    const names = ["CronJob/imports", "CronJob/mounts", "Stack/app", "Stack/clones"];
    assert.deepEqual(await linesOf("--arg secret"), names);
    await server.kubectl(["delete", "cronjobs", "--all", "--namespace=default"]);
    await server.kubectl(["delete", "stacks.pulumi.com", "clones", "--namespace=default"]);
  });

  test("save the Stack, change its image, and then what the diff shows", async () => {
    await run("> stacks-before.json");
    await run('--patch \'{"spec"');
    assert.deepEqual(await specOf("app"), SPEC_BEFORE);

    await run("> exchange.json");
    assert.deepEqual(await specOf("app"), { ...SPEC_AFTER, envRefs: {} });
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

  test("change the others of the service account, but none whose lists the patch would replace", async () => {
    const serviceAccountName = "pulumi";
    const own = { spec: { env: [{ name: "AWS_REGION", value: "us-west-2" }] } };
    const specs = {
      web: { serviceAccountName, accessTokenSecret: "pulumi-api-secret" },
      worker: { serviceAccountName, envSecrets: ["shared"] },
      listed: { serviceAccountName, workspaceTemplate: own },
      another: { serviceAccountName: "deployer" },
    };
    for (const [name, spec] of Object.entries(specs)) await apply(stack(name, spec, "default"));

    await run("xargs kubectl patch");
    const exchange = { envRefs: {}, workspaceTemplate: SPEC_AFTER.workspaceTemplate };
    const changed = {
      ...specs,
      web: { serviceAccountName, ...exchange },
      worker: { ...specs.worker, ...exchange },
    };
    for (const [name, spec] of Object.entries(changed))
      assert.deepEqual(await specOf(name), stack(name, spec).spec);
  });

  test("find no token in the changed Stacks, and delete the Secret, but of a shared one only the key", async () => {
    assert.deepEqual(await linesOf("get stacks.pulumi.com --all-namespaces"), [
      "default\tworker\tpulumi\tenvSecrets\tshared",
    ]);
    assert.deepEqual(await linesOf("--arg secret"), []);

    await run("kubectl delete secret");
    assert.equal((await secretOf("pulumi-api-secret")).status, 404);
    assert.deepEqual(Object.keys((await secretOf("shared")).body.data), ["AWS_REGION"]);
  });

  test("go back: the saved Stacks replace the changed ones, and the Secret has the pasted token", async () => {
    // As someone might try instead.
    await apply(stack("app", SPEC_AT_FIRST, "default"));
    assert.notDeepEqual(await specOf("app"), SPEC_AT_FIRST);

    await run("kubectl replace");
    assert.deepEqual(await specOf("app"), SPEC_AT_FIRST);
    await run("> exchange.json");
    await server.kubectl(["replace", "--filename", join(directory, "stacks-before.json")]);
    assert.deepEqual(await specOf("app"), SPEC_AT_FIRST);

    await run("read -rs token", `${TOKEN}\n`);
    const { accessToken } = (await secretOf("pulumi-api-secret")).body.data;
    assert.equal(Buffer.from(accessToken, "base64").toString(), TOKEN);
  });
});

function stack(name: string, spec: object, namespace = "team-a"): KubernetesObject {
  return {
    apiVersion: "pulumi.com/v1",
    kind: "Stack",
    metadata: { namespace, name },
    spec: { stack: `acme/${name}/prod`, ...spec },
  };
}

function secret(namespace: string, name: string, stringData: Record<string, string>): KubernetesObject {
  return { apiVersion: "v1", kind: "Secret", metadata: { namespace, name }, stringData };
}

function cronJob(name: string, pod: object, container: object = {}): KubernetesObject {
  const containers = [{ name: "job", image: "example.com/image:1", ...container }];
  const template = { spec: { restartPolicy: "Never", containers, ...pod } };
  return {
    apiVersion: "batch/v1",
    kind: "CronJob",
    metadata: { namespace: "default", name },
    spec: { schedule: "0 6 * * *", jobTemplate: { spec: { template } } },
  };
}

const VERSION = {
  name: "v1",
  served: true,
  storage: true,
  subresources: { status: {} },
  schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
};

/** The definition of Stacks, without the operator's schema. */
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
