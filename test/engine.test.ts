// The program on Pulumi's own engine, with the simulation as its providers.

import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { checkAccess } from "../simulator/accessCheck";
import { serveProvider } from "../simulator/provider";
import { type Simulation, type SimulationOptions, startSimulation } from "../simulator/simulation";
import {
  ACCESS_TOKEN,
  type Cli,
  copyProject,
  createProject,
  missingCli,
  type Outcome,
  openCli,
} from "./pulumiCli";

const SETTINGS = {
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  userLogin: "alice",
  // A file-backed stack has no organization.
  organization: "acme",
};

// No pod has such a name: the allow policy refuses every one.
const DENY = { policyRules: { '"kubernetes.io".pod.name': "another-*" } };

interface Stack {
  simulation: Simulation;
  folder: string;
  /** What the pods of the simulation have printed. */
  log: string[];
  pulumi(...args: string[]): Promise<Outcome>;
  /** `pulumi up` without the preview in front of it. */
  up(...args: string[]): Promise<Outcome>;
}

describe("the program on Pulumi's engine", { skip: missingCli }, () => {
  let currentSimulation: Simulation;
  let debugProviders: string;
  before(async () => {
    debugProviders = await serveProvider(() => currentSimulation);
  });

  test("a preview of an empty stack announces the Job and makes nothing", async (t) => {
    const { simulation, pulumi } = await emptyStack(t);
    const before = simulation.existing();

    const { screen } = succeeded(await pulumi("preview"));
    assert.match(screen, /Job runner create/);
    assert.deepEqual(simulation.existing(), before);
  });

  test("an update makes the stack, and its pod runs the command with an access token", async (t) => {
    const { simulation, log, up, pulumi } = await emptyStack(t);

    succeeded(await up());
    assert.deepEqual(statuses(simulation), [200]);
    assert.ok(log.includes("alice"), log.join("\n"));

    const outputs = JSON.parse((await pulumi("stack", "output", "--json")).stdout);
    assert.equal(outputs.issuerUrl, simulation.issuer.url);
    assert.equal(outputs.serviceAccount, "default/pulumi-service-account");
    assert.ok(simulation.existing().aws.includes(outputs.roleArn.split("/")[1]));
    assert.ok(simulation.existing().kubernetes.includes(`default/${outputs.jobName}`));
    assert.deepEqual(simulation.existing().pulumiCloud, [outputs.oidcIssuerId]);
  });

  test("a second preview has no change", async (t) => {
    const { pulumi } = await standingStack(t);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("a refresh finds no change, and leaves none behind", async (t) => {
    const { pulumi } = await standingStack(t);
    succeeded(await pulumi("refresh", "--yes", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("an organization token and an audience of one's own leave no change behind either", async (t) => {
    const { pulumi } = await standingStack(t, {
      userLogin: "",
      tokenType: "organization",
      tokenAudience: "urn:pulumi:org:acme",
    });
    succeeded(await pulumi("refresh", "--yes", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("a changed script replaces the ConfigMap and the Job, and nothing else", async (t) => {
    const { simulation, folder, up } = await standingStack(t);
    await appendFile(join(folder, "scripts", "exchange-token.sh"), "# changed\n");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), ["runner replaced", "script replaced"]);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("another userLogin updates the issuer in place and runs the Job again", async (t) => {
    const { simulation, log, pulumi, up } = await standingStack(t);
    await pulumi("config", "set", "userLogin", "bob");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), ["oidc-issuer updated", "runner replaced"]);
    assert.equal(log.at(-1), "bob");
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("another namespace moves service account, trust policy, rules and Job together", async (t) => {
    const { simulation, pulumi, up } = await standingStack(t, {}, { namespaces: ["team-a"] });
    await pulumi("config", "set", "namespace", "team-a");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), [
      "oidc-issuer updated",
      "pulumi-oidc updated",
      "runner replaced",
      "script replaced",
      "service-account replaced",
    ]);
    const namespaces = simulation.existing().kubernetes.map((id) => id.split("/")[0]);
    assert.deepEqual(new Set(namespaces), new Set(["team-a"]));
    const [itself] = await checkAccess(simulation);
    assert.ok(itself?.pulumiCloud.allowed && itself.role.allowed);

    const [role = ""] = simulation.existing().aws.filter((name) => name.startsWith("pulumi-oidc-"));
    const before = await simulation.issuer.token({
      namespace: "default",
      serviceAccount: "pulumi-service-account",
    });
    assert.equal((await simulation.aws.assumeRoleWithWebIdentity(role, before)).allowed, false);
    const [policy] = simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
    assert.equal(policy?.rules['"kubernetes.io".namespace'], "team-a");
  });

  test("a denied exchange fails the update with the script's reason on the screen", async (t) => {
    const { simulation, up } = await emptyStack(t, DENY);

    const { exitCode, screen } = await up();
    assert.notEqual(exitCode, 0);
    assert.match(screen, /denied the token exchange: HTTP 400.*no allow policy of the issuer matches/s);
    assert.match(screen, /'kubernetes\.io'\.pod\.name is 'runner-/);
    assert.deepEqual(statuses(simulation), [400]);
  });

  test("without a mend a later update does not claim success", async (t) => {
    const { simulation, up } = await emptyStack(t, DENY);
    await up();

    const { exitCode, screen } = await up();
    assert.notEqual(exitCode, 0);
    assert.match(screen, /Job has failed/);
    assert.deepEqual(statuses(simulation), [400], "the same Job was waited for");
  });

  test("once the allow policy alone is mended, the next update runs the exchange again and passes", async (t) => {
    const { simulation, pulumi, up } = await emptyStack(t, DENY);
    await up();
    await pulumi("config", "rm", "policyRules");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), ["oidc-issuer updated", "runner replaced"]);
    assert.deepEqual(statuses(simulation), [400, 200]);
  });

  test("up --replace '**::runner' runs the exchange again", async (t) => {
    const { simulation, up } = await standingStack(t);

    const outcome = succeeded(await up("--replace", "**::runner"));
    assert.deepEqual(changes(outcome), ["runner replaced"]);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("an issuer that is replaced goes before its URL is registered again", async (t) => {
    const { simulation, up } = await standingStack(t);

    succeeded(await up("--replace", "**::oidc-issuer"));
    assert.equal(simulation.existing().pulumiCloud.length, 1);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("an issuer that somebody deleted is registered again, and the Job shows that it works", async (t) => {
    const { simulation, up } = await standingStack(t);
    for (const id of simulation.existing().pulumiCloud) simulation.pulumiCloud.remove(id);

    const outcome = succeeded(await up("--refresh"));
    assert.ok(changes(outcome).includes("runner replaced"), outcome.screen);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("once the issuer's certificate is rotated exchanges fail, a preview shows it and an update mends it", async (t) => {
    const { simulation, pulumi, up } = await standingStack(t);
    const old = simulation.issuer.thumbprint();
    await simulation.issuer.rotateCertificate();
    const [itself] = await checkAccess(simulation);
    assert.match(itself?.pulumiCloud.reason ?? "", /thumbprint \w+, which is not registered/);

    const preview = succeeded(await pulumi("preview", "--diff"));
    assert.ok(preview.screen.includes(`"${old}" => "${simulation.issuer.thumbprint()}"`), preview.screen);

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), ["oidc-issuer updated", "runner replaced"]);
    const [afterwards] = await checkAccess(simulation);
    assert.ok(afterwards?.pulumiCloud.allowed);
  });

  test("settings that are wrong stop preview and update with one message, and nothing is registered", async (t) => {
    const stack = await emptyStack(t, { organization: "", userLogin: "", tokenExpirationSeconds: -5 });
    await stopsCleanly(t, stack, [
      /3 settings of stack dev must be mended/,
      /organization: is not set/,
      /userLogin: is not set/,
      /pulumi config set tokenExpirationSeconds 7200/,
    ]);
  });

  test("a cluster that does not exist stops preview and update with one message, and nothing is registered", async (t) => {
    const stack = await emptyStack(t, { clusterName: "nowhere" });
    await stopsCleanly(t, stack, [/The EKS cluster "nowhere" cannot be read in us-west-2: reading EKS/]);
  });

  test("a cluster without an IAM OIDC provider stops preview and update with one message", async (t) => {
    const stack = await emptyStack(t, {}, { cluster: { name: "my-cluster", hasOidcProvider: false } });
    await stopsCleanly(t, stack, [/pulumi config set createOidcProvider true/]);
  });

  test("destroy leaves nothing of the stack in AWS, Kubernetes and Pulumi Cloud", async (t) => {
    const stack = await emptyStack(t, {
      namespace: "runners",
      createNamespace: true,
      rolePolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
    });
    const before = stack.simulation.existing();
    succeeded(await stack.up());
    assert.notDeepEqual(stack.simulation.existing(), before);

    succeeded(await stack.pulumi("destroy", "--yes"));
    assert.deepEqual(stack.simulation.existing(), before);
  });

  test("destroy keeps the IAM OIDC provider that createOidcProvider made, and nothing else", async (t) => {
    const cluster = { name: "my-cluster", hasOidcProvider: false };
    const { simulation, pulumi, up } = await emptyStack(t, { createOidcProvider: true }, { cluster });
    succeeded(await up());
    assert.deepEqual(statuses(simulation), [200]);

    succeeded(await pulumi("destroy", "--yes"));
    const { aws, ...others } = simulation.existing();
    const providers = aws.filter((name) => name !== "my-cluster");
    assert.match(providers.join(), /^arn:aws:iam::\d+:oidc-provider\/127[^,]*$/);
    assert.deepEqual(others, { kubernetes: [], pulumiCloud: [] });
  });

  test("a new cluster previews, comes up with its stack and goes with it", async (t) => {
    const { simulation, pulumi, up } = await emptyStack(t, { createCluster: true }, { cluster: undefined });
    succeeded(await pulumi("preview"));
    succeeded(await up());
    assert.deepEqual(statuses(simulation), [200]);
    succeeded(await pulumi("preview", "--expect-no-changes"));

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  test("an encrypted setting is refused, for it would stand in clear in the state", async (t) => {
    const { simulation, pulumi } = await emptyStack(t);
    const before = simulation.existing();
    await pulumi("config", "set", "--secret", "--path", "command[1]", "hunter2");
    const { exitCode, screen } = await pulumi("preview");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /command: is a secret, and would stand in clear/);
    assert.match(screen, /pulumi config set --plaintext command VALUE/);
    assert.doesNotMatch(screen, /hunter2/);
    assert.deepEqual(simulation.existing(), before);
  });

  test("the state holds no token", async (t) => {
    const { pulumi } = await standingStack(t);
    const { stdout } = succeeded(await pulumi("stack", "export", "--show-secrets"));
    assert.ok(stdout.includes("entrypoint.sh"));
    assert.ok(!stdout.includes(ACCESS_TOKEN));
    assert.doesNotMatch(stdout, /pul-[0-9a-f]{40}|eyJ[\w-]+\.[\w-]+\./);
  });

  for (const [cluster, settings, options] of [
    ["an existing cluster", {}, {}],
    ["a new cluster", { createCluster: true }, { cluster: undefined }],
  ] as const) {
    test(`nothing that a preview cannot know ends up in a text: ${cluster}`, async (t) => {
      const { pulumi } = await emptyStack(t, settings, options);
      const { stdout } = succeeded(await pulumi("preview", "--json"));
      const { steps }: { steps: { newState: { inputs?: object } }[] } = JSON.parse(stdout);

      const texts = steps.flatMap(({ newState }) => textsOf(newState.inputs));
      assert.ok(texts.includes(UNKNOWN));
      const spoiled = texts.filter((value) => value !== UNKNOWN && SPOILED.test(value));
      assert.deepEqual(spoiled, []);
    });
  }

  test("pulumi new asks for region, cluster and login, and for nothing else", async (t) => {
    const { template } = parse(await readFile(join(__dirname, "..", "Pulumi.yaml"), "utf8"));
    assert.deepEqual(Object.keys(template.config), ["aws:region", "clusterName", "userLogin"]);

    // Without an answer the default is saved, and what has none is left to the program to ask for.
    const { cli, folder } = await newProject(t, "--stack", "prod", "-c", "organization=acme");
    assert.deepEqual(await savedSettings(folder, "prod"), {
      "aws:region": "us-west-2",
      "other:organization": "acme",
    });
    const { screen } = await cli.pulumi(folder, "preview");
    assert.match(
      screen,
      /2 settings of stack prod must be mended.*clusterName: is not set.*userLogin: is not set/s,
    );
  });

  test("pulumi new makes a project that previews and simulates at once, with nothing left of the example", async (t) => {
    const settings = [
      "aws:region=eu-central-1",
      "clusterName=my-cluster",
      "userLogin=carol",
      "organization=acme",
    ];
    const { cli, folder } = await newProject(t, "--stack", "dev", ...settings.flatMap((s) => ["-c", s]));
    assert.deepEqual(await savedSettings(folder, "dev"), {
      "aws:region": "eu-central-1",
      "other:clusterName": "my-cluster",
      "other:userLogin": "carol",
      "other:organization": "acme",
    });
    assert.ok(!(await readdir(folder)).includes(".git"));

    succeeded(await cli.pulumi(folder, "preview"));
    const { stdout } = succeeded(await cli.run(folder, "npm", "start"));
    assert.match(stdout, /carol\n.*the pod itself +gets in/s);
  });

  async function emptyStack(
    t: TestContext,
    settings: object = {},
    options: Partial<SimulationOptions> = {},
  ): Promise<Stack> {
    const log: string[] = [];
    const simulation = await openSimulation(t, { ...options, onLog: (line) => log.push(line) });
    const cli = await open(t);
    const folder = await createProject(cli, { ...SETTINGS, ...settings });
    const pulumi = (...args: string[]) => cli.pulumi(folder, ...args);
    return {
      simulation,
      folder,
      log,
      pulumi,
      up: (...args) => pulumi("up", "--yes", "--skip-preview", ...args),
    };
  }

  async function standingStack(...options: Parameters<typeof emptyStack>): Promise<Stack> {
    const stack = await emptyStack(...options);
    succeeded(await stack.up());
    return stack;
  }

  // As a user gets it: the template is a clone, which has what git keeps of the project.
  async function newProject(t: TestContext, ...args: string[]): Promise<{ cli: Cli; folder: string }> {
    await openSimulation(t);
    const cli = await open(t);
    const repository = await copyProject(cli, []);
    const author = ["-c", "user.name=author", "-c", "user.email=author@example.com"];
    succeeded(await cli.run(repository, "git", "init", "--quiet"));
    succeeded(await cli.run(repository, "git", "add", "--all"));
    succeeded(await cli.run(repository, "git", ...author, "commit", "--quiet", "--message", "template"));
    const clone = join(cli.folder, "clone");
    succeeded(await cli.run(cli.folder, "git", "clone", "--quiet", repository, clone));

    const folder = await mkdtemp(join(cli.folder, "new-"));
    succeeded(await cli.pulumi(folder, "new", clone, "--name", "other", "--yes", ...args));
    return { cli, folder };
  }

  async function openSimulation(
    t: TestContext,
    options: Partial<SimulationOptions> = {},
  ): Promise<Simulation> {
    const cluster = { name: "my-cluster", hasOidcProvider: true };
    const folder = process.env.SIMULATOR_DIRECTORY;
    currentSimulation = await startSimulation({ folder, region: "us-west-2", cluster, ...options });
    t.after(currentSimulation.close);
    return currentSimulation;
  }

  async function open(t: TestContext): Promise<Cli> {
    const cli = await openCli(debugProviders);
    t.after(cli.remove);
    return cli;
  }

  async function stopsCleanly(
    t: TestContext,
    { simulation, pulumi, up }: Stack,
    messages: RegExp[],
  ): Promise<void> {
    // The SDK prints what a provider throws; the engine hears of it too.
    t.mock.method(console, "error", () => {});
    const before = simulation.existing();
    for (const command of [() => pulumi("preview"), () => up()]) {
      const started = performance.now();
      const { exitCode, screen } = await command();
      assert.ok(performance.now() - started < 12_000, "took too long");
      assert.notEqual(exitCode, 0);
      for (const message of messages) assert.match(screen, message);
      assert.equal(screen.split("Diagnostics:")[1]?.match(/error:/g)?.length, 1, screen);
      assert.doesNotMatch(screen, /^\s+at /m);
    }
    assert.deepEqual(simulation.existing(), before);
    const { stdout } = await pulumi("stack", "export");
    const resources: { type: string }[] = JSON.parse(stdout).deployment.resources ?? [];
    // The engine's own remain: the stack and, once something was read, the default provider of AWS.
    const registered = resources.filter(({ type }) => !type.startsWith("pulumi:"));
    assert.deepEqual(registered, []);
  }
});

// How @pulumi/pulumi's rpc.ts hands on what is not known yet.
const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

const SPOILED = new RegExp(`${UNKNOWN}|Output<|\\[object |\\bundefined\\b`);

function succeeded(outcome: Outcome): Outcome {
  assert.equal(outcome.exitCode, 0, outcome.screen);
  return outcome;
}

/** What an update did, such as `runner replaced`. */
function changes({ screen }: Outcome): string[] {
  const lines = screen.matchAll(/^ \S+ +\S+ (\S+) (created|updated|replaced|deleted) \(/gm);
  return [...lines].map(([, name, change]) => `${name} ${change}`).sort();
}

function statuses(simulation: Simulation): number[] {
  return simulation.pulumiCloud.exchanges.map(({ status }) => status);
}

async function savedSettings(folder: string, stack: string): Promise<unknown> {
  return parse(await readFile(join(folder, `Pulumi.${stack}.yaml`), "utf8")).config;
}

/** Every text in the value, the keys of its objects too. */
function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, element]) => [key, ...textsOf(element)]);
}
