// A cluster whose issuer is two published files, as examples/component/kind/README.md sets it up, and as a self-managed cluster has it: the
// API server has the flags of examples/component/kind/cluster.yaml, and Pulumi Cloud reads the keys from the files.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { Provider } from "@pulumi/kubernetes/provider";
import { parse } from "yaml";
import { PulumiCloudAccess } from "../../pulumiCloudAccess";
import { type ApiServer, missingApiServer, startApiServer } from "../environment/apiServer";
import { publishedKeys } from "../environment/publishedKeys";
import { startPulumiCloud } from "../environment/pulumiCloud";
import { realKubernetes } from "../environment/realKubernetes";
import { runProgram } from "../environment/runProgram";
import { codeIn, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { startTlsServer } from "../support/tls";
import { setVariables } from "../support/variables";

/** The commands of the page that write the two files. */
const WRITE_FILES =
  codeIn(read("examples/component/kind/README.md"), "bash").find((commands) =>
    commands.includes("/openid/v1/jwks >"),
  ) ?? assert.fail("examples/component/kind/README.md writes no keys");

test("a service account of a cluster whose issuer is two published files is granted a token", {
  skip: missingApiServer,
}, async (t) => {
  const published = temporaryDirectory(t);
  const place = await startTlsServer((path) => {
    return JSON.parse(readFileSync(join(published, path.replace("/pulumi-trial-issuer/", "")), "utf8"));
  });
  t.after(place.close);
  const flags = flagsOfKind(place.origin);
  const server = await startApiServer(flags);
  t.after(server.close);
  await server.shell(WRITE_FILES, { cwd: published });

  const apiUrl = await deploy(t, server, flags["service-account-issuer"] ?? assert.fail());
  const inNamespace = "--namespace=pulumi-trial";
  const idToken = await server.kubectl([
    "create",
    "token",
    "trial",
    inNamespace,
    "--audience=urn:pulumi:org:acme",
  ]);
  const configMap = ["configmap", "trial-pulumi-token-exchange", "--output=json"];
  const { data } = JSON.parse(await server.kubectl(["get", inNamespace, ...configMap]));
  const volume = temporaryDirectory(t);
  for (const [name, content] of Object.entries({ ...data, token: idToken })) {
    writeFileSync(join(volume, name), String(content), { mode: 0o755 });
  }
  const script = join(volume, "exchange-token.sh");
  const { stdout } = await promisify(execFile)(script, ["printenv", "PULUMI_BACKEND_URL"], {
    env: { PATH: process.env.PATH },
  });
  assert.equal(stdout, `${apiUrl}\n`);
});

/** Returns the flags of the API server in the configuration of kind, for files that are published at an origin. */
function flagsOfKind(origin: string): Record<string, string> {
  const [patch = assert.fail()] = parse(read("examples/component/kind/cluster.yaml")).kubeadmConfigPatches;
  return parse(patch.replaceAll("https://LOGIN.github.io", origin)).apiServer.extraArgs;
}

/** Runs the component of examples/component/kind. @returns the URL of Pulumi Cloud. */
async function deploy(t: TestContext, server: ApiServer, issuerUrl: string) {
  const cloud = await startPulumiCloud({ registrationMilliseconds: 0, keysOf: publishedKeys });
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
  const resources = { ...cloud.resources, ...realKubernetes(server) };
  const stack = { project: "trial", stack: "dev", organization: "acme", config: {} };
  await runProgram({ resources, calls: {} }, { ...stack, program });
  return cloud.apiUrl;
}
