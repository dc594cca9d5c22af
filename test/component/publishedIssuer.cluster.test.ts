// A cluster whose issuer is two published files, as docs/trial.md sets it up with kind, and as a self-managed cluster has it: the
// API server has the flags of examples/component/kind/cluster.yaml, and Pulumi Cloud reads the keys from the files.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { Provider } from "@pulumi/kubernetes/provider";
import type { output } from "@pulumi/kubernetes/types";
import { parse } from "yaml";
import { PulumiCloudAccess } from "../../pulumiCloudAccess";
import { emulatorCertificate } from "../../simulator/emulators/certificates";
import type { ResourceKind } from "../../simulator/emulators/emulator";
import { runExchange } from "../../simulator/emulators/pod";
import { startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { startServer } from "../../simulator/emulators/server";
import { runProgram } from "../../simulator/runProgram";
import { type ApiServer, assetPath, missingApiServer, startApiServer } from "../support/apiServer";
import { codeIn, read } from "../support/project";
import { realKubernetes } from "../support/realKubernetes";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const JOB = "kubernetes:batch/v1:Job";

/** The commands of the page that write the two files. */
const WRITE_FILES =
  codeIn(read("docs/trial.md"), "bash").find((commands) => commands.includes("/openid/v1/jwks >")) ??
  assert.fail("docs/trial.md writes no keys");

test("a pod of a cluster whose issuer is two published files is granted a token", {
  skip: missingApiServer,
}, async (t) => {
  const published = temporaryDirectory(t);
  const place = await startServer(await emulatorCertificate(), ({ url = "" }) => {
    const file = join(published, url.replace("/pulumi-trial-issuer/", ""));
    return { status: 200, body: JSON.parse(readFileSync(file, "utf8")) };
  });
  t.after(place.close);
  const flags = flagsOfKind(place.origin);
  const server = await startApiServer(flags);
  t.after(server.close);
  execFileSync("bash", ["-ec", WRITE_FILES], {
    cwd: published,
    env: { PATH: `${dirname(assetPath("kubectl"))}:${process.env.PATH}`, KUBECONFIG: server.kubeconfig },
  });

  const exchanges = await deploy(t, server, flags["service-account-issuer"] ?? assert.fail());
  assert.deepEqual(exchanges, [{ status: 200, reason: "personal token, scope user:alice" }]);
});

/** Returns the flags of the API server in the configuration of kind, for files that are published at an origin. */
function flagsOfKind(origin: string): Record<string, string> {
  const [patch = assert.fail()] = parse(read("examples/component/kind/cluster.yaml")).kubeadmConfigPatches;
  return parse(patch.replaceAll("https://LOGIN.github.io", origin)).apiServer.extraArgs;
}

/** Runs the component of examples/component/kind, and its Job as a pod of the cluster. @returns the token exchanges. */
async function deploy(t: TestContext, server: ApiServer, issuerUrl: string) {
  const cloud = await startPulumiCloud({ registrationMilliseconds: 0 });
  t.after(cloud.close);
  t.after(setVariables({ PULUMI_ACCESS_TOKEN: "pul-admin", PULUMI_API: cloud.apiUrl }));

  const { properties } = parse(read("examples/component/kind/Pulumi.yaml")).resources.access;
  const values: Record<string, string> = { "pulumi.organization": "acme", issuerUrl, userLogin: "alice" };
  const args = JSON.parse(
    JSON.stringify(properties).replaceAll(/\$\{([\w.]+)\}/g, (_, name) => values[name] ?? assert.fail(name)),
  );
  const program = async () => {
    const provider = new Provider("kubernetes", { kubeconfig: "{}" });
    new PulumiCloudAccess("access", { ...args, pulumiApiUrl: cloud.apiUrl }, { providers: [provider] });
    return {};
  };
  const kubernetes = realKubernetes(server);
  const jobs = runningJobs(kubernetes[JOB] ?? assert.fail(), server);
  const resources = { ...cloud.resources, ...kubernetes, [JOB]: jobs };
  const stack = { project: "trial", stack: "dev", organization: "acme", config: {} };
  await runProgram({ resources, calls: {} }, { ...stack, program });
  return cloud.exchanges;
}

/** Returns Jobs whose pods run the exchange script, with ID tokens of the API server. */
function runningJobs(jobs: ResourceKind, server: ApiServer): ResourceKind {
  return {
    ...jobs,
    async create(name, inputs: output.batch.v1.Job) {
      const namespace = `--namespace=${inputs.metadata.namespace}`;
      const { spec } = inputs.spec.template;
      const configMap = `${spec.serviceAccountName}-pulumi-token-exchange`;
      const { data } = JSON.parse(
        await server.kubectl(["get", "configmap", configMap, namespace, "--output=json"]),
      );
      const { exitCode, log } = await runExchange({
        spec,
        command: ["true"],
        idToken: async (audience) => {
          const options = [spec.serviceAccountName, namespace, `--audience=${audience}`];
          return (await server.kubectl(["create", "token", ...options])).trim();
        },
        configMap: () => data,
        onLog: () => {},
      });
      assert.equal(exitCode, 0, log.join("\n"));
      return jobs.create(name, inputs);
    },
  };
}
