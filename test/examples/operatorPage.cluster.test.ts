// The commands of docs/operator.md on a real API server. Its Stacks have a schema that accepts every field.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import {
  type ApiServer,
  assetPath,
  type KubernetesObject,
  kubeconfigOf,
  missingApiServer,
  startApiServer,
} from "../support/apiServer";
import { commandWith, STACK_AFTER, STACK_BEFORE } from "../support/operatorPage";
import { eventually } from "../support/pods";
import { temporaryDirectory } from "../support/temporaryDirectory";

const TOKEN = `pul-${randomBytes(20).toString("hex")}`;
const STACK_PATH = "/apis/pulumi.com/v1/namespaces/default/stacks/app";

/** Where else a Stack can have a token, by the name of the Stack. */
const OTHER_STACKS = {
  older: { accessTokenSecret: "pulumi-token" },
  oldest: { envSecrets: ["environment"] },
  literal: { envRefs: { PULUMI_ACCESS_TOKEN: { type: "Literal", literal: { value: "token" } } } },
  workspace: {
    serviceAccountName: "deployer",
    workspaceTemplate: {
      spec: {
        env: [{ name: "PULUMI_ACCESS_TOKEN", valueFrom: { secretKeyRef: { name: "first", key: "token" } } }],
        envFrom: [{ configMapRef: { name: "settings" } }, { secretRef: { name: "second" } }],
        podTemplate: {
          spec: { containers: [{ name: "pulumi", envFrom: [{ secretRef: { name: "third" } }] }] },
        },
      },
    },
  },
  none: { envRefs: { AWS_REGION: { type: "Literal", literal: { value: "us-west-2" } } } },
};

describe("the commands of docs/operator.md", { skip: missingApiServer }, () => {
  const directory = temporaryDirectory({ after });
  let server: ApiServer;

  before(async () => {
    server = await startApiServer();
    const kubeconfig = kubeconfigOf(server.url, { token: server.tokenOf("admin") });
    await writeFile(join(directory, "kubeconfig"), kubeconfig, { mode: 0o600 });
    await apply(STACKS);
    await eventually("Stacks exist", async () => {
      return (await server.request("GET", "/apis/pulumi.com/v1/stacks")).status === 200;
    });
    await server.createNamespace("team-a");
    await apply(secret("default", "pulumi-api-secret", { accessToken: TOKEN }));
    await apply(STACK_BEFORE);
  });
  after(() => server?.close());

  const apply = (object: object) => server.kubectl(["apply", "--filename=-"], object);

  /** Runs the command of the page that contains a string, and returns what it prints. */
  async function run(text: string, input = ""): Promise<string> {
    const running = promisify(execFile)("bash", ["-euo", "pipefail", "-c", commandWith(text)], {
      env: {
        PATH: `${dirname(assetPath("kubectl"))}${delimiter}${process.env.PATH}`,
        // kubectl keeps its cache there.
        HOME: directory,
        KUBECONFIG: join(directory, "kubeconfig"),
      },
    });
    running.child.stdin?.end(input);
    return (await running).stdout;
  }

  async function linesOf(text: string): Promise<string[]> {
    return (await run(text)).split("\n").filter(Boolean).sort();
  }

  test("list the Stacks with a token, their service accounts, and where each token comes from", async () => {
    for (const [name, spec] of Object.entries(OTHER_STACKS)) await apply(stack(name, spec));

    assert.deepEqual(await linesOf("get stacks.pulumi.com --all-namespaces"), [
      "default\tapp\tpulumi\tpulumi-api-secret",
      "team-a\tliteral\tdefault\t(in the Stack)",
      "team-a\tolder\tdefault\tpulumi-token",
      "team-a\toldest\tdefault\tenvironment",
      "team-a\tworkspace\tdeployer\tfirst",
      "team-a\tworkspace\tdeployer\tsecond",
      "team-a\tworkspace\tdeployer\tthird",
    ]);
  });

  test("list the Secrets that contain a token, in a file too, without the token", async () => {
    const credentials = JSON.stringify({ accounts: { "https://api.pulumi.com": { accessToken: TOKEN } } });
    await apply(secret("team-a", "file", { "credentials.json": credentials }));
    await apply(secret("team-a", "other", { password: "pull-request", empty: "" }));
    await apply({ ...secret("team-a", "binary", {}), data: { key: randomBytes(300).toString("base64") } });
    await apply(secret("team-a", "nothing", {}));

    assert.deepEqual(await linesOf("get secrets --all-namespaces"), [
      "default\tpulumi-api-secret\taccessToken",
      "team-a\tfile\tcredentials.json",
    ]);
  });

  test("list what names the Secret", async () => {
    const mounted = { volumes: [{ name: "token", secret: { secretName: "pulumi-api-secret" } }] };
    await apply(cronJob("mounts", mounted));
    await apply(cronJob("imports", {}, { envFrom: [{ secretRef: { name: "pulumi-api-secret" } }] }));
    await apply(cronJob("unrelated", {}, { envFrom: [{ secretRef: { name: "another-secret" } }] }));

    assert.deepEqual(await linesOf("--arg secret"), ["CronJob/imports", "CronJob/mounts", "Stack/app"]);
    await server.kubectl(["delete", "cronjobs", "--all", "--namespace=default"]);
  });

  test("report an update as successful only if it is that of the changed Stack", async () => {
    const { body } = await server.request("GET", STACK_PATH);
    const { generation = assert.fail() } = body.metadata ?? {};
    const states = { succeeded: [generation - 1, generation], failed: [generation] };
    const reports: string[] = [];
    for (const [state, generations] of Object.entries(states)) {
      for (const generation of generations) {
        await updateStatus({ lastUpdate: { state, generation } });
        reports.push((await run("$generation")).trim());
      }
    }
    assert.deepEqual(reports, ["false", "true", "false"]);
  });

  test("print the address of the update", async () => {
    const permalink = "https://app.pulumi.com/acme/app/prod/updates/7";
    await updateStatus({ lastUpdate: { permalink } });
    assert.equal(await run("permalink"), `${permalink}\n`);
  });

  test("request another update", async () => {
    await run("kubectl annotate");
    const { body } = await server.request("GET", STACK_PATH);
    assert.ok(body.metadata?.annotations?.["pulumi.com/reconciliation-request"]);
  });

  test("find neither a token nor a use of the Secret once the Stack is changed, and delete it", async () => {
    await server.kubectl(["delete", "stacks.pulumi.com", "--all", "--namespace=team-a"]);
    await apply(STACK_AFTER);
    assert.deepEqual(await linesOf("get stacks.pulumi.com --all-namespaces"), []);
    assert.deepEqual(await linesOf("--arg secret"), []);

    await run("kubectl delete secret");
    const { status } = await server.request("GET", "/api/v1/namespaces/default/secrets/pulumi-api-secret");
    assert.equal(status, 404);
  });

  test("go back: the Stack of before replaces that of after, and the Secret has the pasted token", async () => {
    await apply(STACK_BEFORE);
    const { body } = await server.request("GET", STACK_PATH);
    assert.deepEqual(body.spec, STACK_BEFORE.spec);

    await run("read -rs token", `${TOKEN}\n`);
    const created = await server.request("GET", "/api/v1/namespaces/default/secrets/pulumi-api-secret");
    assert.equal(Buffer.from(created.body.data.accessToken, "base64").toString(), TOKEN);
  });

  async function updateStatus(status: object): Promise<void> {
    const path = `${STACK_PATH}/status`;
    const answer = await server.request("PATCH", path, { status }, "application/merge-patch+json");
    assert.equal(answer.status, 200, answer.body.message);
  }
});

function stack(name: string, spec: object): KubernetesObject {
  const metadata = { namespace: "team-a", name };
  return {
    apiVersion: "pulumi.com/v1",
    kind: "Stack",
    metadata,
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

/** The definition of Stacks, without the operator's schema. */
const STACKS = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: { name: "stacks.pulumi.com" },
  spec: {
    group: "pulumi.com",
    names: { kind: "Stack", plural: "stacks" },
    scope: "Namespaced",
    versions: [
      {
        name: "v1",
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};
