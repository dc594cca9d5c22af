// The simulation of one stack: runs the program against the emulators, and reports what it did.

import { join } from "node:path";
import { readOptions } from "./commandLine";
import { Unready } from "./emulator";
import { type Registration, runProgram } from "./mocks";
import { generatedPolicies } from "./policies";
import { accessLines, accessMarkdown, paint, wrap } from "./report";
import { checkSimulatedAccess } from "./simulatedAccess";
import { startSimulation } from "./simulation";
import { readStackFile, type StackFile } from "./stackFile";

const ORGANIZATION = "acme";

// No other command of the settings may run on this machine.
const COMMAND = ["pulumi", "whoami"];

/** Output of successful Jobs is left out beyond this many of them. */
const SHOWN_JOBS = 5;

const options = readOptions(process.argv.slice(2));
const isText = !options.policies && !options.markdown;

async function simulate(): Promise<void> {
  const { stack } = options;
  const stackFile = readStackFile(join(__dirname, ".."), stack);
  const settings = settingsOf(stackFile);
  const { project, config } = stackFile;
  const region = config["aws:region"] ?? "us-west-2";
  const registered: Registration[] = [];
  const jobs = new Map<string, string[]>();

  const simulation = await startSimulation({
    region,
    ...assumedToExist(settings),
    command: COMMAND,
    onLog: (line, account) => jobs.set(account, [...(jobs.get(account) ?? []), line]),
  });
  try {
    const replaced = replaceThumbprints(stackFile, simulation.issuer.thumbprint());
    if (isText) for (const note of notes(settings, replaced)) print(...wrap(note, 2, 2));

    const onRegistered = (registration: Registration) => registered.push(registration);
    const run = runProgram(simulation, { project, stack, config, organization: ORGANIZATION, onRegistered });
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
    // The output of the Job has just said why.
    if (failure instanceof Unready && isText && jobs.size > 0) throw new Error(JOB_FAILED);
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

const JOB_FAILED = "A Job failed, and `pulumi up` would fail with it. Its output above ends with the reason.";

type Settings = (key: string) => unknown;

/** Settings of the stack and, for each service account, with those of its entry. */
interface AllSettings {
  stack: Settings;
  accounts: Settings[];
}

function settingsOf({ project, config }: StackFile): AllSettings {
  const stack: Settings = (key) => config[`${project}:${key}`] || undefined;
  const entries = entriesOf(stack("serviceAccounts"));
  const accounts = entries.map<Settings>((entry) => (key) => {
    const value = entry[key === "serviceAccountName" ? "name" : key] ?? "";
    return value === "" ? stack(key) : value;
  });
  return { stack, accounts: accounts.length > 0 ? accounts : [stack] };
}

// Invalid settings are for the program to report.
function entriesOf(value: unknown): Record<string, unknown>[] {
  try {
    const entries: unknown = JSON.parse(String(value));
    return Array.isArray(entries) ? entries.filter((entry) => typeof entry === "object" && entry) : [];
  } catch {
    return [];
  }
}

/** What the settings take for granted: the cluster, the namespaces, the service accounts, and the runners. */
function assumedToExist({ stack, accounts }: AllSettings) {
  const namespace = (account: Settings) => String(account("namespace") ?? "default");
  const created = accounts.filter((account) => isTrue(account("createNamespace"))).map(namespace);
  const cluster = {
    name: String(stack("clusterName")),
    hasOidcProvider: !isTrue(stack("createOidcProvider")),
  };
  return {
    cluster: isTrue(stack("createCluster")) ? undefined : cluster,
    namespaces: accounts.map(namespace).filter((name) => !created.includes(name)),
    serviceAccounts: accounts
      .filter((account) => String(account("createServiceAccount")) === "false")
      .map((account) => `${namespace(account)}/${account("serviceAccountName")}`),
    runners: accounts.map((account) => ({
      id: String(account("runnerId")),
      name: String(account("runnerName")),
    })),
  };
}

function isTrue(value: unknown): boolean {
  return String(value) === "true";
}

/** Replaces valid thumbprints by the one of the emulated issuer, and returns whether there were any. */
function replaceThumbprints({ project, config }: StackFile, thumbprint: string): boolean {
  const key = `${project}:thumbprints`;
  if (!/"[0-9a-f]{64}"/.test(config[key] ?? "")) return false;
  config[key] = JSON.stringify([thumbprint]);
  return true;
}

function notes({ stack, accounts }: AllSettings, thumbprintsReplaced: boolean): string[] {
  const isOther = (command: unknown) =>
    command && (typeof command === "string" ? command : JSON.stringify(command)) !== JSON.stringify(COMMAND);
  const all: [boolean, string][] = [
    [
      !stack("organization"),
      `organization is not set: the simulation uses "${ORGANIZATION}". \`pulumi preview\` uses the organization of the stack, and requires the setting if the stack has none, as in a self-managed backend: pulumi config set organization ORGANIZATION`,
    ],
    [isTrue(stack("createCluster")), "createCluster: of the new cluster, only the OIDC issuer is emulated."],
    [thumbprintsReplaced, "thumbprints: replaced by the one of the emulated issuer."],
    [
      accounts.some((account) => isOther(account("command"))),
      "command: the Jobs run `pulumi whoami` instead. The configured command is not run on this machine.",
    ],
  ];
  return all.flatMap(([applies, note]) => (applies ? [note] : []));
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
    if (ids.length === 0) return [];
    if (options.verbose) return ids.map((id) => `  ${label.padEnd(19)}${id}`);
    const [id = ""] = ids;
    return [`  ${label.padEnd(19)}${ids.length > 1 ? ids.length : id.length > 59 ? `${id.slice(0, 58)}…` : id}`];
  });
  if (lines.length === 0) return;
  printTitle("Resources (simulated)");
  print(...lines);
}

function printJobs(jobs: Map<string, string[]>, failed: boolean): void {
  if (jobs.size === 0) return;
  printTitle("Job output");
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

function print(...lines: string[]): void {
  for (const line of lines) console.log(line);
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
