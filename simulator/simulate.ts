// The simulation of one stack: runs the program in the simulation, and tells what happens as it happens.

import { join } from "node:path";
import { parseArgs, styleText } from "node:util";
import { type Answer, type Caller, checkAccess } from "./accessCheck";
import { Unready } from "./emulator";
import { type Registration, runProgram } from "./mocks";
import { type SimulationOptions, startSimulation } from "./simulation";
import { readStackFile } from "./stackFile";

const ORGANIZATION = "acme";

const THUMBPRINTS = /"[0-9a-f]{64}"/;

const JOB_FAILED =
  "The Job failed, and `pulumi up` would fail with it: what its pod says above would be its message.";

// Nothing else of the settings may run on this machine.
const COMMAND = ["pulumi", "whoami"];

async function simulate(): Promise<void> {
  const stack = stackName();
  const { project, config } = readStackFile(join(__dirname, ".."), stack);
  const setting = (key: string) => config[`${project}:${key}`] ?? "";

  title(
    `Simulating stack ${stack}: the real program, with an AWS, a Kubernetes and a Pulumi Cloud of this machine`,
  );
  let podSpoke = false;
  const onLog = (line: string) => {
    if (!podSpoke) title("What the pod did");
    podSpoke = true;
    say(line);
  };
  const simulation = await startSimulation({ ...simulationOf(config, setting), command: COMMAND, onLog });
  try {
    for (const note of substitutes(setting)) say(note);
    // An empty list, or one that the program will refuse, stays as it is.
    if (THUMBPRINTS.test(setting("thumbprints"))) {
      config[`${project}:thumbprints`] = JSON.stringify([simulation.issuer.thumbprint()]);
    }

    await runProgram(simulation, { project, stack, config, organization: ORGANIZATION, onRegistered: tell });
    showCallers(await checkAccess(simulation));
  } catch (error) {
    // The pod's log has just said why.
    throw error instanceof Unready && podSpoke ? new Error(JOB_FAILED) : error;
  } finally {
    await simulation.close();
  }
}

// What is not the stack's own here, and what stands for it.
function substitutes(setting: (key: string) => string): string[] {
  const command = setting("command");
  return [
    !setting("organization") && `The stack's organization is not known here; ${ORGANIZATION} stands for it.`,
    setting("createCluster") === "true" && "The new cluster is not emulated, but for its OIDC issuer.",
    THUMBPRINTS.test(setting("thumbprints")) &&
      "The local issuer's thumbprint stands for the configured ones.",
    command !== JSON.stringify(COMMAND) &&
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

// The simulation is what the settings take for granted: the cluster that they name is there, and so is the namespace.
function simulationOf(config: Record<string, string>, setting: (key: string) => string): SimulationOptions {
  const isSet = (key: string) => setting(key) === "true";
  const cluster = { name: setting("clusterName"), hasOidcProvider: !isSet("createOidcProvider") };
  return {
    folder: process.env.SIMULATOR_DIRECTORY,
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

let told = false;

function tell({ type, id }: Registration): void {
  const name = NAMES[type];
  if (name && !told) title("What the stack made");
  told ||= name !== undefined;
  if (name) say(`${name.padEnd(18)}${id}${type.endsWith(":Job") ? ", succeeded" : ""}`);
}

function showCallers(callers: Caller[]): void {
  const table = callers.map(({ name, pulumiCloud, role, refusedBy }) => {
    const looser = pulumiCloud.allowed && refusedBy ? `; ${refusedBy} would refuse it` : "";
    return {
      cells: [name, answer(pulumiCloud) + looser, answer(role)],
      in: pulumiCloud.allowed || role.allowed,
    };
  });
  table.unshift({ cells: ["Who gets in", "Pulumi Cloud", "IAM role"], in: false });
  const width = (column: number) => Math.max(...table.map(({ cells }) => cells[column]?.length ?? 0)) + 2;
  const widths = [width(0), width(1), 0];

  console.log();
  for (const [index, row] of table.entries()) {
    const line = row.cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("");
    console.log(paint(index === 0 ? "bold" : row.in ? "green" : "dim", line.trimEnd()));
  }
}

// In the words of the other column, as far as there are any.
function answer({ allowed, reason }: Answer): string {
  if (allowed) return "gets in";
  const claim = /\(allow\): (.+?) is ['[]/.exec(reason)?.[1];
  if (claim) return `no: the allow policy wants another ${claim.replaceAll("'", '"')}`;
  return `no: ${reason.replace(/( does not verify|OIDC issuer)[: ].*/s, "$1").replace("has no", "has no such")}`;
}

function paint(format: "bold" | "dim" | "green" | "red", text: string): string {
  return process.stdout.isTTY && !process.env.NO_COLOR ? styleText(format, text) : text;
}

function title(text: string): void {
  console.log(`\n${paint("bold", text)}`);
}

function say(text: string): void {
  console.log(`  ${text}`);
}

// Whoever reads may stop reading: `npm start | head`.
process.stdout.on("error", () => process.exit());

simulate().catch((error: Error) => {
  console.log(`\n${paint("red", error.message.trimEnd())}`);
  process.exitCode = 1;
});
