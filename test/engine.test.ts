// The program on Pulumi's own engine, with the simulation as its providers.

import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { type Simulation, type SimulationOptions, startSimulation } from "../simulator/simulation";
import { requestAccessToken } from "../simulator/tokenExchange";
import { serveProvider } from "./provider";
import { ACCESS_TOKEN, type Cli, copyProject, createProject, missingCli, type Outcome, openCli } from "./pulumiCli";

const SETTINGS = {
  "aws:region": "us-west-2",
  clusterName: "my-cluster",
  userLogin: "alice",
  // A file-backed stack has no organization.
  organization: "acme",
};

// No pod has such a name: the allow policy matches none.
const DENY = { policyRules: { '"kubernetes.io".pod.name': "other-*" } };

const ACCOUNT = "default.pulumi-service-account";

/** Four service accounts of four token types in three namespaces. */
const FOUR = [
  { namespace: "team-a", name: "deployer", tokenType: "personal", userLogin: "alice" },
  { namespace: "team-a", name: "drift", tokenType: "team", teamName: "platform" },
  { namespace: "team-b", name: "secrets", tokenType: "organization", createRole: false },
  { namespace: "runners", name: "runner", tokenType: "runner", runnerId: "pool-1", runnerName: "builders" },
];
const FIFTH = { namespace: "team-b", name: "extra", tokenType: "team", teamName: "extra" };
const RUNNERS = [{ id: "pool-1", name: "builders" }];

interface Stack {
  simulation: Simulation;
  directory: string;
  cli: Cli;
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

  test("previews an empty stack and changes nothing", async (t) => {
    const { simulation, pulumi } = await emptyStack(t);
    const before = simulation.existing();

    const { screen } = succeeded(await pulumi("preview"));
    assert.match(screen, /Job +default\.pulumi-service-account +create/);
    assert.deepEqual(simulation.existing(), before);
  });

  test("creates the stack with up, and the Job runs the command with an access token", async (t) => {
    const { simulation, log, up, pulumi } = await emptyStack(t);

    succeeded(await up());
    assert.deepEqual(statuses(simulation), [200]);
    assert.ok(log.includes("alice"), log.join("\n"));

    const outputs = JSON.parse((await pulumi("stack", "output", "--json")).stdout);
    const account = outputs.serviceAccounts["default/pulumi-service-account"];
    assert.equal(outputs.issuerUrl, simulation.issuer.url);
    assert.ok(simulation.existing().aws.includes(account.roleArn.split("/")[1]));
    assert.ok(simulation.existing().kubernetes.includes(`default/${outputs.jobName}`));
    assert.equal(account.jobName, outputs.jobName);
    assert.ok(simulation.existing().kubernetes.includes(`default/${account.environmentConfigMap}`));
    assert.deepEqual(simulation.existing().pulumiCloud, [outputs.oidcIssuerId]);
  });

  test("shows no changes in a second preview, in a refresh, and after it", async (t) => {
    const { pulumi } = await standingStack(t, {
      userLogin: "",
      tokenType: "organization",
      tokenAudience: "urn:pulumi:org:acme",
    });
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes", "--expect-no-changes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("updates the ConfigMap in place and runs the Job again when the script changes", async (t) => {
    const { simulation, directory, up } = await standingStack(t);
    await appendFile(join(directory, "scripts", "exchange-token.sh"), "# changed\n");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), [`${ACCOUNT} replaced`, `${ACCOUNT}.pulumi-token-exchange updated`]);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("updates the issuer in place and runs the Job again for a different userLogin", async (t) => {
    const { simulation, log, pulumi, up } = await standingStack(t);
    await pulumi("config", "set", "userLogin", "bob");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), [
      `${ACCOUNT} replaced`,
      `${ACCOUNT}.pulumi-token updated`,
      "oidc-issuer updated",
    ]);
    assert.equal(log.at(-1), "bob");
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("brings up four service accounts of four token types in three namespaces", async (t) => {
    const { simulation, log, pulumi } = await fourAccounts(t);

    assert.deepEqual(statuses(simulation), [200, 200, 200, 200]);
    assert.equal(simulation.existing().pulumiCloud.length, 1);
    assert.equal(policies(simulation).length, 4);
    assert.ok(log.includes("alice"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("creates a fifth service account without touching the others", async (t) => {
    const { simulation, pulumi, up } = await fourAccounts(t);
    await setAccounts(pulumi, [FIFTH, ...FOUR]);

    const outcome = succeeded(await up());
    assert.deepEqual(
      changes(outcome),
      [
        ...Array(3).fill("team-b.extra created"),
        "team-b.extra.pulumi-token created",
        "team-b.extra.pulumi-token-exchange created",
        "oidc-issuer updated",
      ].sort(),
    );
    assert.equal(statuses(simulation).length, 5);
  });

  test("denies a removed service account at once, and deletes only its resources", async (t) => {
    const { simulation, pulumi, up } = await fourAccounts(t);
    await setAccounts(pulumi, FOUR.slice(1));

    const outcome = succeeded(await up());
    assert.deepEqual(
      new Set(
        changes(outcome)
          .filter((change) => change !== "oidc-issuer updated")
          .map((change) => change.split(" ")[1]),
      ),
      new Set(["deleted"]),
    );
    assert.ok(
      changes(outcome).every((change) => /^(team-a\.deployer|oidc-issuer)/.test(change)),
      outcome.screen,
    );
    assert.equal(policies(simulation).length, 3);
    assert.ok(!JSON.stringify(policies(simulation)).includes("deployer"));
  });

  test("runs only the Job of the service account whose team changes", async (t) => {
    const { simulation, pulumi, up } = await fourAccounts(t);
    await pulumi("config", "set", "--path", "serviceAccounts[1].teamName", "security");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), [
      "oidc-issuer updated",
      "team-a.drift replaced",
      "team-a.drift.pulumi-token updated",
    ]);
    assert.equal(statuses(simulation).length, 5);
  });

  test("fails the update for a denied service account by name, keeps the others, and completes later", async (t) => {
    const accounts = FOUR.map((account, index) => (index === 1 ? { ...account, ...DENY } : account));
    const { simulation, pulumi, up } = await emptyStack(
      t,
      { serviceAccounts: accounts, userLogin: "", createNamespace: true },
      { runners: RUNNERS },
    );

    const { exitCode, screen } = await up("--continue-on-error");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /Job \(team-a\.drift\):/);
    assert.deepEqual(statuses(simulation).sort(), [200, 200, 200, 400]);

    await setAccounts(pulumi, FOUR);
    assert.deepEqual(changes(succeeded(await up())), ["oidc-issuer updated", "team-a.drift replaced"]);
    assert.deepEqual(statuses(simulation).sort(), [200, 200, 200, 200, 400]);
  });

  test("comes up beside a stack for another organization on the same cluster", async (t) => {
    const { simulation, cli } = await standingStack(t);
    const settings = { ...SETTINGS, organization: "other", serviceAccountName: "other-account" };
    const directory = await createProject(cli, settings, "other");

    succeeded(await cli.pulumi(directory, "up", "--yes", "--skip-preview"));
    assert.deepEqual(statuses(simulation), [200, 200]);
    assert.equal(simulation.existing().pulumiCloud.length, 2);
  });

  test("fails the update with the script's reason when the exchange is denied", async (t) => {
    const { simulation, up } = await emptyStack(t, DENY);

    const { exitCode, screen } = await up();
    assert.notEqual(exitCode, 0);
    assert.match(screen, /HTTP 400.*no allow policy of the issuer matches/s);
    assert.deepEqual(statuses(simulation), [400]);
  });

  test("runs a failed Job again with a plain up, which passes once the policy is fixed", async (t) => {
    const { simulation, pulumi, up } = await emptyStack(t, DENY);
    await up();
    assert.notEqual((await up()).exitCode, 0);
    assert.deepEqual(statuses(simulation), [400, 400]);
    await pulumi("config", "rm", "policyRules");

    const outcome = succeeded(await up());
    assert.deepEqual(changes(outcome), [`${ACCOUNT} replaced`, "oidc-issuer updated"]);
    assert.deepEqual(statuses(simulation), [400, 400, 200]);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("deletes an issuer before it registers its URL again", async (t) => {
    const { simulation, up } = await standingStack(t);

    succeeded(await up("--target-replace", "**OidcIssuer::oidc-issuer"));
    assert.equal(simulation.existing().pulumiCloud.length, 1);
  });

  test("registers an issuer again that was deleted elsewhere, and the Job proves it", async (t) => {
    const { simulation, up } = await standingStack(t);
    for (const id of simulation.existing().pulumiCloud) simulation.pulumiCloud.remove(id);

    const outcome = succeeded(await up("--refresh"));
    assert.ok(changes(outcome).includes(`${ACCOUNT} replaced`), outcome.screen);
    assert.deepEqual(statuses(simulation), [200, 200]);
  });

  test("goes on exchanging after the issuer's certificate is rotated, and up refreshes the thumbprint", async (t) => {
    const { simulation, pulumi, up } = await standingStack(t);
    const old = simulation.issuer.thumbprint();
    await simulation.issuer.rotateCertificate();

    const idToken = await simulation.issuer.token({
      namespace: "default",
      serviceAccount: "pulumi-service-account",
    });
    const request = {
      PULUMI_ORG: "acme",
      PULUMI_TOKEN_TYPE: "personal",
      PULUMI_TOKEN_SCOPE: "user:alice",
      PULUMI_TOKEN_EXPIRATION: "60",
    };
    assert.ok((await requestAccessToken(simulation.pulumiCloud.url, request, idToken)).allowed);

    succeeded(await up());
    const [issuer] = simulation.pulumiCloud.list();
    assert.deepEqual(issuer?.registration.thumbprints, [simulation.issuer.thumbprint()]);
    assert.notEqual(simulation.issuer.thumbprint(), old);
    succeeded(await pulumi("preview", "--expect-no-changes"));
  });

  test("creates a new cluster's issuer once, and keeps its thumbprint", async (t) => {
    const { simulation, pulumi, up } = await emptyStack(t, { createCluster: true }, { cluster: undefined });
    succeeded(await pulumi("preview"));
    succeeded(await up());
    assert.deepEqual(statuses(simulation), [200]);
    await simulation.issuer.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));

    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing(), { aws: [], kubernetes: [], pulumiCloud: [] });
  });

  test("rejects invalid configuration in preview and up with one message, and registers nothing", async (t) => {
    const stack = await emptyStack(t, { organization: "", userLogin: "", tokenExpirationSeconds: -5 });
    await stopsCleanly(t, stack, [
      /Invalid configuration for stack "dev" \(3 problems\)\. No changes were made\./,
      /organization: required/,
      /userLogin: required/,
      /pulumi config set tokenExpirationSeconds SECONDS/,
    ]);
  });

  test("rejects a cluster that does not exist with one message, and registers nothing", async (t) => {
    const stack = await emptyStack(t, { clusterName: "nowhere" });
    await stopsCleanly(t, stack, [/Failed to look up EKS cluster "nowhere" in us-west-2: reading EKS/]);
  });

  test("rejects a cluster without an IAM OIDC provider with one message", async (t) => {
    const stack = await emptyStack(t, {}, { cluster: { name: "my-cluster", hasOidcProvider: false } });
    await stopsCleanly(t, stack, [/pulumi config set createOidcProvider true/]);
  });

  test("rejects a missing service account that it does not create", async (t) => {
    const { pulumi } = await emptyStack(t, { createServiceAccount: false });
    const { exitCode, screen } = await pulumi("preview");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /default\/pulumi-service-account does not exist/);
  });

  test("leaves nothing in AWS, Kubernetes, and Pulumi Cloud after destroy", async (t) => {
    const { simulation, pulumi } = await fourAccounts(t);
    succeeded(await pulumi("destroy", "--yes"));
    assert.deepEqual(simulation.existing().kubernetes, []);
    assert.deepEqual(simulation.existing().pulumiCloud, []);
    assert.equal(simulation.existing().aws.length, 2, "the cluster and its IAM OIDC provider");
  });

  test("retains only the IAM OIDC provider of createOidcProvider on destroy", async (t) => {
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

  test("rejects an encrypted setting, which would be in plaintext in the state", async (t) => {
    const { simulation, pulumi } = await emptyStack(t, { serviceAccounts: FOUR });
    const before = simulation.existing();
    await pulumi("config", "set", "--secret", "--path", "serviceAccounts[1].teamName", "hunter2");
    const { exitCode, screen } = await pulumi("preview");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /\(1 problem\)/);
    assert.match(screen, /serviceAccounts: is encrypted, but would be stored in plaintext/);
    assert.doesNotMatch(screen, /hunter2/);
    assert.deepEqual(simulation.existing(), before);
  });

  test("accepts service accounts typed by hand and by pulumi config set --path, and converts no value", async (t) => {
    const { pulumi } = await emptyStack(t, { userLogin: "" });
    const set = async (key: string, value: string, ...options: string[]) =>
      succeeded(await pulumi("config", "set", ...options, "--path", `serviceAccounts[0].${key}`, value));
    await set("name", "drift");
    await set("tokenType", "team");
    await set("teamName", "777");
    await set("runJob", "false");
    await set("tokenExpirationSeconds", "900");
    const { screen } = await pulumi("preview");
    const fix = /pulumi config set --type string --path 'serviceAccounts\[0\]\.teamName' TEAM/;
    assert.match(screen, fix);
    assert.match(screen, /must be a string, but YAML reads it as a number/);

    await set("teamName", "777", "--type", "string");
    succeeded(await pulumi("preview"));
  });

  test("stores no token in the state", async (t) => {
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
    const { cli, directory } = await newProject(t, "--stack", "prod", "-c", "organization=acme");
    assert.deepEqual(await savedSettings(directory, "prod"), {
      "aws:region": "us-west-2",
      "other:organization": "acme",
    });
    const { screen } = await cli.pulumi(directory, "preview");
    assert.match(screen, /stack "prod" \(2 problems\).*clusterName: required.*userLogin: required/s);
  });

  test("pulumi new makes a project that previews and simulates at once, with nothing left of the example", async (t) => {
    const settings = ["aws:region=eu-central-1", "clusterName=my-cluster", "userLogin=carol", "organization=acme"];
    const { cli, directory } = await newProject(t, "--stack", "dev", ...settings.flatMap((s) => ["-c", s]));
    assert.deepEqual(await savedSettings(directory, "dev"), {
      "aws:region": "eu-central-1",
      "other:clusterName": "my-cluster",
      "other:userLogin": "carol",
      "other:organization": "acme",
    });
    assert.ok(!(await readdir(directory)).includes(".git"));

    succeeded(await cli.pulumi(directory, "preview"));
    const { stdout } = succeeded(await cli.run(directory, "npm", "start"));
    assert.match(stdout, /carol\n/);
  });

  async function emptyStack(
    t: TestContext,
    settings: object = {},
    options: Partial<SimulationOptions> = {},
  ): Promise<Stack> {
    const log: string[] = [];
    const simulation = await openSimulation(t, { ...options, onLog: (line) => log.push(line) });
    const cli = await open(t);
    const directory = await createProject(cli, { ...SETTINGS, ...settings });
    const pulumi = (...args: string[]) => cli.pulumi(directory, ...args);
    return {
      simulation,
      directory,
      cli,
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

  async function fourAccounts(t: TestContext): Promise<Stack> {
    const settings = { serviceAccounts: FOUR, userLogin: "", createNamespace: true };
    return standingStack(t, settings, { runners: RUNNERS });
  }

  function setAccounts(pulumi: Stack["pulumi"], accounts: object[]): Promise<Outcome> {
    return pulumi("config", "set", "serviceAccounts", JSON.stringify(accounts));
  }

  // As a user gets it: the template is a clone, which has what git keeps of the project.
  async function newProject(t: TestContext, ...args: string[]): Promise<{ cli: Cli; directory: string }> {
    await openSimulation(t);
    const cli = await open(t);
    const repository = await copyProject(cli, []);
    const author = ["-c", "user.name=author", "-c", "user.email=author@example.com"];
    succeeded(await cli.run(repository, "git", "init", "--quiet"));
    succeeded(await cli.run(repository, "git", "add", "--all"));
    succeeded(await cli.run(repository, "git", ...author, "commit", "--quiet", "--message", "template"));
    const clone = join(cli.directory, "clone");
    succeeded(await cli.run(cli.directory, "git", "clone", "--quiet", repository, clone));

    const directory = await mkdtemp(join(cli.directory, "new-"));
    succeeded(await cli.pulumi(directory, "new", clone, "--name", "other", "--yes", ...args));
    return { cli, directory };
  }

  async function openSimulation(t: TestContext, options: Partial<SimulationOptions> = {}): Promise<Simulation> {
    const cluster = { name: "my-cluster", hasOidcProvider: true };
    currentSimulation = await startSimulation({ region: "us-west-2", cluster, ...options });
    t.after(currentSimulation.close);
    return currentSimulation;
  }

  async function open(t: TestContext): Promise<Cli> {
    const cli = await openCli(debugProviders);
    t.after(cli.remove);
    return cli;
  }

  async function stopsCleanly(t: TestContext, { simulation, pulumi, up }: Stack, messages: RegExp[]): Promise<void> {
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

function policies(simulation: Simulation): object[] {
  return simulation.pulumiCloud.list()[0]?.registration.policies ?? [];
}

function statuses(simulation: Simulation): number[] {
  return simulation.pulumiCloud.exchanges.map(({ status }) => status);
}

async function savedSettings(directory: string, stack: string): Promise<unknown> {
  return parse(await readFile(join(directory, `Pulumi.${stack}.yaml`), "utf8")).config;
}

/** Every text in the value, the keys of its objects too. */
function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, element]) => [key, ...textsOf(element)]);
}
