// The rehearsal of one stack: runs the program in the local world, and tells what happens as it happens.

import { join } from "node:path";
import { parseArgs, styleText } from "node:util";
import { type Answer, type Caller, whoGetsIn } from "./callers";
import { type Registration, runProgram } from "./mocks";
import { readStackFile } from "./stackFile";
import { startWorld, type WorldOptions } from "./world";

const ORGANIZATION = "acme";

async function rehearse(): Promise<void> {
  const stack = stackName();
  const { project, config } = readStackFile(join(__dirname, ".."), stack);
  const setting = (key: string) => config[`${project}:${key}`] ?? "";

  title(
    `Rehearsing stack ${stack}: the real program, with an AWS, a Kubernetes and a Pulumi Cloud of this machine`,
  );
  let podSpoke = false;
  const onLog = (line: string) => {
    if (!podSpoke) title("What the pod did");
    podSpoke = true;
    say(line);
  };
  const world = await startWorld({ ...worldOf(config, setting), onLog });
  try {
    for (const note of substitutes(setting)) say(note);
    // An empty list, or one that the program will refuse, stays as it is.
    if (/[0-9a-f]{64}/.test(setting("thumbprints"))) {
      config[`${project}:thumbprints`] = JSON.stringify([world.issuer.thumbprint()]);
    }

    title("What the stack made");
    await runProgram(world, { project, stack, config, organization: ORGANIZATION, onRegistered: tell });
    showCallers(await whoGetsIn(world));
  } finally {
    await world.close();
  }
}

// What is not the stack's own here, and what stands for it.
function substitutes(setting: (key: string) => string): string[] {
  const command = setting("command");
  return [
    !setting("organization") && `The stack's organization is not known here; ${ORGANIZATION} stands for it.`,
    setting("createCluster") === "true" && "The new cluster is not emulated, but for its OIDC issuer.",
    setting("thumbprints") !== "[]" && "The local issuer's thumbprint stands for the configured ones.",
    command !== '["pulumi","whoami"]' &&
      "`pulumi whoami` stands for the command, which belongs to its image.",
  ].filter((note) => note !== false);
}

function stackName(): string {
  try {
    return parseArgs({ options: { stack: { type: "string", short: "s", default: "dev" } } }).values.stack;
  } catch (error) {
    const reason = error instanceof Error ? error.message.split(".")[0] : error;
    throw new Error(`${reason}. Usage: npm start -- [--stack NAME]`);
  }
}

// The world is what the settings take for granted: the cluster that they name is there, and so is the namespace.
function worldOf(config: Record<string, string>, setting: (key: string) => string): WorldOptions {
  const isSet = (key: string) => setting(key) === "true";
  const cluster = { name: setting("clusterName"), hasOidcProvider: !isSet("createOidcProvider") };
  return {
    folder: process.env.REHEARSAL_FOLDER,
    region: config["aws:region"] ?? "us-west-2",
    cluster: isSet("createCluster") ? undefined : cluster,
    namespaces: isSet("createNamespace") ? [] : [setting("namespace")],
    runners: [{ id: setting("runnerId"), name: setting("runnerName") }],
  };
}

const NAMES: Record<string, string> = {
  "eks:index:Cluster": "EKS cluster",
  "aws:iam/openIdConnectProvider:OpenIdConnectProvider": "IAM OIDC provider",
  "aws:iam/role:Role": "IAM role",
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "attached policy",
  "kubernetes:core/v1:Namespace": "namespace",
  "kubernetes:core/v1:ServiceAccount": "service account",
  "kubernetes:core/v1:ConfigMap": "ConfigMap",
  "kubernetes:batch/v1:Job": "Job",
  "pulumiservice:index:OidcIssuer": "OIDC issuer",
};

function tell({ type, id }: Registration): void {
  const name = NAMES[type];
  if (name) say(`${name.padEnd(18)}${id}${type.endsWith(":Job") ? ", succeeded" : ""}`);
}

function showCallers(callers: Caller[]): void {
  const rows = callers.map(({ name, pulumiCloud, role }) => [name, answer(pulumiCloud), answer(role)]);
  const table = [["Who gets in", "Pulumi Cloud", "IAM role"], ...rows];
  const widths = [0, 1].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)) + 2);
  const line = (row: string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("")
      .trimEnd();

  title(line(table[0] ?? []));
  for (const [index, row] of rows.entries()) {
    const gotIn = callers[index]?.pulumiCloud.allowed || callers[index]?.role.allowed;
    say(paint(gotIn ? "green" : "dim", line(row)), "");
  }
}

function answer({ allowed, reason }: Answer): string {
  const short = reason
    .replace(/^no allow policy of the issuer matches; policy 1 \(allow\): /, "")
    .replace(/ is '.*| https:.*/s, "");
  return allowed ? "gets in" : `no: ${short}`;
}

function paint(format: "bold" | "dim" | "green" | "red", text: string): string {
  return process.stdout.isTTY && !process.env.NO_COLOR ? styleText(format, text) : text;
}

function title(text: string): void {
  console.log(`\n${paint("bold", text)}`);
}

function say(text: string, indent = "  "): void {
  console.log(indent + text);
}

rehearse().catch((error: Error) => {
  console.log(`\n${paint("red", error.message.trimEnd())}`);
  process.exitCode = 1;
});
