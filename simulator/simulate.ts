// The simulation of one stack: runs the program against the emulators, and reports what it did.

import { join } from "node:path";
import { isAbout } from "./accessCheck/questions";
import { accessLines, accessMarkdown } from "./accessCheck/report";
import { checkSimulatedAccess } from "./accessCheck/simulatedAccess";
import { paint, print, wrap } from "./accessCheck/terminal";
import { readOptions } from "./commandLine";
import { isRecord } from "./emulators/authPolicy";
import { Unready } from "./emulators/emulator";
import { startSimulation } from "./emulators/simulation";
import { type Registration, runProgram } from "./mocks";
import { readStackFile, type StackFile } from "./stackFile";

const PROJECT = join(__dirname, "..");
const ORGANIZATION = "acme";

// What each Job runs after the token exchange.
const COMMAND = ["bash", "-c", "echo '$ pulumi whoami' && pulumi whoami"];

/** Output of successful Jobs is left out beyond this many of them. */
const SHOWN_JOBS = 5;

const options = readOptions(process.argv.slice(2), PROJECT);
const isText = !options.policies && !options.markdown;

async function simulate(): Promise<void> {
  const { stack } = options;
  const stackFile = readStackFile(PROJECT, stack);
  const { project, config } = stackFile;
  const region = config["aws:region"] ?? "us-west-2";
  const registered: Registration[] = [];
  const jobs = new Map<string, string[]>();
  if (isText && !config[`${project}:organization`]) print(...wrap(NO_ORGANIZATION, 2, 2));

  const simulation = await startSimulation({
    region,
    ...assumedToExist(stackFile),
    command: COMMAND,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const run = runProgram(simulation, { project, stack, config, organization: ORGANIZATION, registered });
    const failure: unknown = await run.then(
      () => undefined,
      (error: unknown) => error,
    );
    const policies = JSON.stringify(generatedPolicies(registered, simulation.issuer.url, region), null, 2);
    if (options.policies && !options.markdown && registered.length > 0) print(policies);
    if (isText) {
      printResources(registered);
      printJobs(jobs, failure !== undefined);
    }
    if (failure instanceof Unready && isText && jobs.size > 0) {
      throw new Error("A Job failed, so `pulumi up` would fail. See its output above.");
    }
    if (failure !== undefined) throw failure;
    if (options.policies && !options.markdown) return;

    const { outputs } = await run;
    const rows = await checkSimulatedAccess(simulation, outputs);
    if (options.markdown) {
      print(accessMarkdown(rows), "", "<details><summary>Policies</summary>", "", "```json");
      print(policies, "```", "", "</details>", "");
    } else {
      printTitle("Access check");
      print(...accessLines(rows, options.verbose));
    }
  } finally {
    await simulation.close();
  }
}

const NO_ORGANIZATION = `organization is not set: the simulation uses "${ORGANIZATION}". \`pulumi preview\` uses the stack's organization, and asks for this setting if there is none.`;

/** What the settings take for granted: the cluster, the service accounts, and the runners. */
function assumedToExist({ project, config }: StackFile) {
  const stack = (key: string) => config[`${project}:${key}`] ?? "";
  const cluster = { name: stack("clusterName"), hasOidcProvider: stack("createOidcProvider") !== "true" };
  const entries = entriesOf(stack("serviceAccounts"));
  const accounts = (entries.length > 0 ? entries : [{}]).map(
    (entry: Record<string, unknown>) => (key: string) => String(entry[key] ?? "") || stack(key),
  );
  return {
    cluster: stack("createCluster") === "true" ? undefined : cluster,
    serviceAccounts: accounts
      .filter((account) => account("createServiceAccount") === "false")
      .map((account) => `${account("namespace")}/${account("name") || account("serviceAccountName")}`),
    runners: accounts.map((account) => ({ id: account("runnerId"), name: account("runnerName") })),
  };
}

// Invalid settings are for the program to report.
function entriesOf(serviceAccounts: string): Record<string, unknown>[] {
  try {
    return [JSON.parse(serviceAccounts)].flat().filter(isRecord);
  } catch {
    return [];
  }
}

/**
 * Returns the generated trust policy (null without an IAM role) and allow policy of each service account, by
 * `NAMESPACE/NAME`, with a placeholder in the form of EKS for the emulated issuer.
 */
function generatedPolicies(registered: Registration[], issuerUrl: string, region: string): object {
  const placeholder = `oidc.eks.${region}.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`;
  const ofType = (type: string) => registered.filter((resource) => resource.type === type);
  const allowPolicies = ofType("pulumiservice:index:OidcIssuer").flatMap(
    ({ inputs }) => inputs.policies as { rules: Record<string, string> }[],
  );
  const entries = ofType("eks-pulumi-oidc:index:WorkloadIdentity").map(({ name: component }) => {
    const [namespace = "", name = ""] = component.split(".");
    const role = ofType("aws:iam/role:Role").find((resource) => resource.name === component);
    const trustPolicy = JSON.stringify(role?.inputs.assumeRolePolicy ?? null);
    return [
      `${namespace}/${name}`,
      {
        trustPolicy: JSON.parse(trustPolicy.replaceAll(issuerUrl.replace("https://", ""), placeholder)),
        allowPolicy: allowPolicies.find(({ rules }) => isAbout(rules, namespace, name)) ?? null,
      },
    ];
  });
  return Object.fromEntries(entries);
}

const TYPES: Record<string, string> = {
  "eks:index:Cluster": "EKS cluster",
  "aws:iam/openIdConnectProvider:OpenIdConnectProvider": "IAM OIDC provider",
  "kubernetes:core/v1:Namespace": "Namespace",
  "pulumiservice:index:OidcIssuer": "OIDC issuer",
  "aws:iam/role:Role": "IAM role",
  "aws:iam/rolePolicyAttachment:RolePolicyAttachment": "Policy attachment",
  "kubernetes:core/v1:ServiceAccount": "Service account",
  "kubernetes:core/v1:ConfigMap": "ConfigMap",
  "kubernetes:batch/v1:Job": "Job",
};

/** Prints a line for each type with the IDs, or with --verbose a line for each resource. */
function printResources(registered: Registration[]): void {
  const lines = Object.entries(TYPES).flatMap(([type, label]) => {
    const ids = registered.filter((resource) => resource.type === type).map(({ id }) => id);
    if (options.verbose) return ids.map((id) => `  ${label.padEnd(19)}${id}`);
    const [id, ...others] = ids;
    if (id === undefined) return [];
    const shown = id.length > 59 ? `${id.slice(0, 58)}…` : id;
    return [`  ${label.padEnd(19)}${others.length > 0 ? ids.length : shown}`];
  });
  if (lines.length === 0) return;
  printTitle("Resources (simulated)");
  print(...lines);
}

function printJobs(jobs: Map<string, string[]>, failed: boolean): void {
  if (jobs.size === 0) return;
  printTitle("Job output (the simulation runs only pulumi whoami)");
  const isShown = jobs.size <= SHOWN_JOBS || failed || options.verbose;
  if (!isShown) print(`  ${jobs.size} Jobs succeeded. To print their output: npm start -- --verbose`);
  for (const [account, lines] of isShown ? jobs : []) {
    print(`  ${paint("bold", account)}`);
    print(...lines.flatMap((line) => wrap(line, 4)));
  }
}

function printTitle(title: string): void {
  print("", paint("bold", title));
}

/** Prints the first or the last line, on standard error if standard output is JSON. */
function printBanner(text: string): void {
  if (options.markdown) print(`> ${text}`, "");
  else if (options.policies) console.error(text);
  else print(paint("bold", text));
}

// The reader may stop reading: `npm start | head`.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit());

printBanner(`Simulation of stack ${options.stack}: nothing is created outside this machine.`);
simulate()
  .catch((error: Error) => {
    console.error(`\n${paint("red", error.message.trimEnd(), process.stderr)}`);
    process.exitCode = 1;
  })
  .finally(() => {
    if (isText) print("");
    printBanner("Simulation: nothing was created in AWS, Kubernetes, or Pulumi Cloud.");
  });
