// The questions of docs/trial.md to Pulumi Cloud, with the ID tokens of a real API server. The emulator answers as the page expects,
// and a real Pulumi Cloud is what the trial is for.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Provider } from "@pulumi/kubernetes/provider";
import { parse } from "yaml";
import { PulumiCloudAccess } from "../../pulumiCloudAccess";
import { startPulumiCloud } from "../../simulator/emulators/pulumiCloud";
import { runProgram } from "../../simulator/runProgram";
import { missingApiServer, startApiServer } from "../support/apiServer";
import { missingJq } from "../support/programs";
import { codeIn, read } from "../support/project";
import { realKubernetes } from "../support/realKubernetes";
import { setVariables } from "../support/variables";

const PAGE = read("docs/trial.md");

test("the questions of docs/trial.md are denied, but the first", {
  skip: missingApiServer || missingJq,
}, async (t) => {
  const server = await startApiServer();
  t.after(server.close);
  await server.createNamespace("pulumi-trial");
  const cloud = await startPulumiCloud({ registrationMilliseconds: 0 });
  t.after(cloud.close);
  t.after(setVariables({ PULUMI_ACCESS_TOKEN: "pul-admin", PULUMI_API: cloud.apiUrl }));

  const [file = assert.fail()] = codeIn(PAGE, "yaml");
  const { maxExpirationSeconds, serviceAccounts } = parse(file).config;
  const program = async () => {
    const provider = new Provider("kubernetes", { kubeconfig: "{}" });
    const settings = { organization: "acme", issuerName: "trial", issuerUrl: server.url };
    const args = { ...settings, maxExpirationSeconds, serviceAccounts, pulumiApiUrl: cloud.apiUrl };
    new PulumiCloudAccess("access", args, { providers: [provider] });
    return {};
  };
  const resources = { ...cloud.resources, ...realKubernetes(server) };
  await runProgram(
    { resources, calls: {} },
    { project: "trial", stack: "dev", organization: "acme", config: {}, program },
  );

  assert.ok(codeIn(PAGE, "bash").includes("bash examples/trial/questions.sh acme\n"));
  const commands = read("examples/trial/questions.sh").replaceAll("https://api.pulumi.com", cloud.apiUrl);
  const stdout = await server.shell(commands, {
    args: ["acme"],
    environment: { CURL_CA_BUNDLE: process.env.NODE_EXTRA_CA_CERTS },
  });
  const answers = stdout.trim().split("\n");
  const granted = answers.map((answer) => /^"granted for \d+ s"$/.test(answer));
  // The emulator does not know the maximum lifetime.
  const [own, othersToken, otherAudience, , otherType] = granted;
  assert.deepEqual([own, othersToken, otherAudience, otherType], [true, false, false, false], stdout);
});
