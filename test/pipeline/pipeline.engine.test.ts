// The pipeline's program on Pulumi's own engine, and the commands of docs/pipeline.md with the real gh, aws, and pulumi.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { ISSUER_URL } from "../../pipeline/github";
import type { AuthPolicy } from "../../simulator/emulators/authPolicy";
import { simulationDirectory } from "../../simulator/emulators/certificates";
import { failed, succeeded } from "../support/engineOutcome";
import { type Block, blocksOf, copyProject, ROOT, read, sectionOf } from "../support/project";
import { serveProvider } from "../support/provider";
import { missingCli, openCli, pathOf } from "../support/pulumiCli";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";
import * as cloudOf from "./cloud";

const { ACCOUNT, DEFAULT_DENY, GITHUB_PROVIDER, SUBJECT_PREFIX } = cloudOf;

const TOOLS = ["gh api --help", "jq --version", "aws --version", "moto_server --help"];
const failing = TOOLS.find((command) => spawnSync("bash", ["-c", command]).status !== 0);
/** Why nothing here can run, and what to do about it; false if all tools are there. */
const missingTool =
  missingCli || (failing && `\`${failing}\` fails: \`bash .ci/run\` installs what is missing`);

const GITHUB_TOKEN = "ghp_0123456789";
const OTHERS: AuthPolicy = {
  decision: "allow",
  tokenType: "team",
  teamName: "web",
  rules: { sub: "repo:acme/web:*" },
};

describe("the pipeline on Pulumi's engine", { skip: missingTool }, () => {
  let cloud: cloudOf.PipelineCloud;
  let debugProviders: string;
  let moto: Moto;
  before(async () => {
    debugProviders = await serveProvider(() => cloud);
    moto = await startMoto();
  });
  after(() => moto.stop());

  test("if the repository or a cluster is not ready, nothing is created, and the printed commands work", async (t) => {
    const { up, run } = await newPipeline(t, { reviewers: ["octocat"] });
    cloud.clusters.set("us-west-2 my-cluster", "CONFIG_MAP");
    const screen = failed(await up(), /only the main branch/, /reviewers/, /is not protected/, /CONFIG_MAP/);
    assert.deepEqual(cloud.writes, []);
    const commands = screen.match(/(?<=\n {2}| )(bash github\.sh|aws eks) .*/g) ?? [];
    assert.equal(new Set(commands).size, 4, screen);
    for (const command of new Set(commands)) succeeded(await run("bash", "-c", command));
    failed(await up(), /CONFIG_MAP/);
    assert.deepEqual(cloud.existing(), []);
  });

  test("in a fresh account, the documented commands set it up, change nothing when rerun, show drift, and remove it", async (t) => {
    const { pulumi, run, documented, root } = await newPipeline(t, {
      rolePolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
      permissionsBoundaryArn: `arn:aws:iam::${ACCOUNT}:policy/boundary`,
      tagKeys: ["team"],
      createOidcProvider: true,
      podIdentity: true,
    });
    await documented("Set it up", "fresh");
    const created = cloud.existing();
    assert.equal(created.length, 14);
    assert.match(JSON.stringify(cloud.issuers.get("acme/1")), /"thumbprints":\["[0-9a-f]{64}"\]/);
    const file = await readFile(join(root, ".github", "pipeline.json"), "utf8");
    assert.match(JSON.parse(file).stacks[0].deployRoleArn, /:role\/github-deploy-1a2b3c4$/);

    await cloud.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes"));
    assert.match(await documented("Set it up", "fresh"), /Resources:\n +17 unchanged/);
    assert.deepEqual(cloud.existing(), created);

    const { stdout } = await pulumi("stack", "export", "--show-secrets");
    assert.ok(![ACCESS_TOKEN, GITHUB_TOKEN].some((token) => stdout.includes(token)));

    // moto checks the grammar of IAM's documents.
    const putPolicy = (role: string, policy: string) => {
      const args = ["--role-name", role, "--policy-name", "stack", "--policy-document", policy];
      return run("aws", "iam", "put-role-policy", ...args);
    };
    for (const name of ["github-preview", "github-deploy"]) {
      const trust = ["--assume-role-policy-document", documentOf(stdout, "Role", name, "assumeRolePolicy")];
      succeeded(await run("aws", "iam", "create-role", "--role-name", name, ...trust));
      succeeded(await putPolicy(name, documentOf(stdout, "RolePolicy", name, "policy")));
    }
    assert.match((await putPolicy("github-deploy", '{"Statement":[{}]}')).screen, /MalformedPolicyDocument/);

    const workflow = parse(read(".github/workflows/drift.yml"));
    const steps: { run?: string }[] = workflow.jobs.drift.steps;
    const command = steps.find((step) => step.run?.startsWith("pulumi "))?.run ?? assert.fail();
    const drift = () => run("env", "STACK=github", "bash", "-euo", "pipefail", "-c", command);
    succeeded(await drift());
    for (const issuer of cloud.issuers.values()) issuer.policies = issuer.policies.map(() => OTHERS);
    failed(await drift(), /~ sub +: "repo:acme\/web:\*" => "repo:acme@11/);

    await documented("Remove it", "fresh");
    assert.deepEqual(cloud.existing(), []);
    await assert.rejects(readFile(join(root, ".github", "pipeline.json")), /ENOENT/);
  });

  test("if GitHub is already registered, the documented commands keep what others have", async (t) => {
    const { run, documented } = await newPipeline(t);
    const issuer = { name: "GitHub", url: ISSUER_URL, policies: [DEFAULT_DENY, OTHERS] };
    cloud.stored.set(GITHUB_PROVIDER, {});
    cloud.issuers.set("acme/1", issuer);
    for (const _ of ["once", "again"]) {
      await documented("Set it up", "existing");
      const [kept, ...added] = issuer.policies;
      assert.deepEqual(kept, OTHERS);
      assert.deepEqual(
        added.map(({ rules }) => rules.sub?.replace(SUBJECT_PREFIX, "")),
        [":pull_request", ":ref:refs/heads/main", ":environment:production"],
      );
    }

    // Without any other policy, one has to stay, since the API rejects an empty list.
    issuer.policies = issuer.policies.slice(1);
    for (const _ of ["once", "again"]) {
      succeeded(await run("bash", "policies.sh", "remove", "acme"));
      assert.deepEqual(issuer.policies, [
        { decision: "deny", tokenType: "organization", rules: { sub: "none" } },
      ]);
    }

    const hidden = { ...OTHERS, rules: { sub: "repo:acme/web:\u001b[8m\u202e" } };
    issuer.policies = [hidden];
    const { screen } = succeeded(await run("bash", "policies.sh", "add", "acme"));
    assert.match(screen, /^"allow team token: repo:acme\/web:\\u001b\[8m\\u202e"$/m);
    assert.deepEqual(issuer.policies[0], hidden);

    const unknown = await run("bash", "policies.sh", "add", "globex");
    assert.equal(unknown.exitCode, 1);
    assert.match(unknown.screen, /No stack of the configuration belongs to globex/);

    issuer.policies = [OTHERS];
    succeeded(await run("bash", "policies.sh", "add", "acme"));
    await documented("Remove it", "existing");
    assert.deepEqual(cloud.existing(), ["acme/1", GITHUB_PROVIDER]);
    assert.deepEqual(issuer.policies, [OTHERS]);
  });

  test("the documented commands create the stacks in their organization and project", async (t) => {
    const { root, run } = await newPipeline(t);
    const commands = commandsOf("Set it up").filter(({ text }) => /pulumi stack \w+ /.test(text));
    const script = commands.map(({ text }) => text.replace(/^pulumi stack output .*\n/gm, "")).join("");
    const apiUrl = `https://127.0.0.1:${cloud.port}`;
    const create = () => run("env", `PULUMI_BACKEND_URL=${apiUrl}`, "bash", "-euc", `cd ${root}\n${script}`);
    succeeded(await create());
    assert.deepEqual([...cloud.stacks], ["acme/eks-pulumi-oidc/dev", "acme/eks-pulumi-oidc-pipeline/github"]);
    assert.match((await create()).screen, /already exists/);
  });

  test("after an update that was stopped halfway, the documented commands unlock the stack", async (t) => {
    const { root, state, run, documented } = await newPipeline(t);
    succeeded(await run("pulumi", "--cwd", root, "stack", "init", "dev"));
    const locks = join(state, ".pulumi", "locks", "organization", "eks-pulumi-oidc", "dev");
    await mkdir(locks, { recursive: true });
    const lock = { pid: 1, username: "runner", hostname: "gone", timestamp: "2026-01-01T00:00:00Z" };
    await writeFile(join(locks, "0a1b2c3d-0000-4000-8000-000000000000.json"), JSON.stringify(lock));
    const locked = await run("pulumi", "--cwd", root, "refresh", "--yes", "--stack", "dev");
    assert.match(locked.screen, /the stack is currently locked by/);
    await documented("An update was stopped halfway", "once");
  });

  async function newPipeline(t: TestContext, config: object = {}) {
    const directory = simulationDirectory();
    cloud = await cloudOf.startPipelineCloud(t);
    // The SDK prints what a provider throws; the engine reports it too.
    t.mock.method(console, "error", () => {});
    await createCluster(moto.url);
    const bin = temporaryDirectory(t);
    // The program reads the certificate of GitHub's issuer.
    const redirect = `tls.connect = (options) => connect({ ...options, host: "127.0.0.1", port: ${cloud.port} });`;
    await writeFile(
      join(bin, "tls.cjs"),
      `const tls = require("node:tls");\nconst { connect } = tls;\n${redirect}\n`,
    );
    const cli = await openCli(debugProviders, {
      PATH: `${bin}:${process.env.PATH}`,
      GH_HOST: `127.0.0.1:${cloud.port}`,
      GH_ENTERPRISE_TOKEN: GITHUB_TOKEN,
      SSL_CERT_FILE: join(directory, "ca.pem"),
      NODE_OPTIONS: `${process.env.NODE_OPTIONS} --require=${join(bin, "tls.cjs")}`,
      PULUMI_SKIP_CONFIRMATIONS: "true",
      AWS_ENDPOINT_URL: moto.url,
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    });
    t.after(cli.remove);
    // The state is in a file, but `pulumi api` needs the service.
    const wrapper = `if [ "$1" = api ]; then export PULUMI_BACKEND_URL=https://127.0.0.1:${cloud.port}; fi; exec ${pathOf("pulumi")} "$@"`;
    await writeFile(join(bin, "pulumi"), `#!/bin/sh\n${wrapper}\n`, { mode: 0o755 });

    const root = await copyProject(join(cli.directory, "project"), [
      "simulator",
      "accessCheck",
      "test",
      ".ci",
    ]);
    await symlink(join(ROOT, "node_modules"), join(root, "node_modules"));
    const projectDirectory = join(root, "pipeline");
    const file = join(projectDirectory, "Pulumi.github.yaml");
    const { config: example } = parse(await readFile(file, "utf8"));
    await writeFile(file, stringify({ config: { ...example, ...cloudOf.SETTINGS, ...config } }));
    const pulumi = (...args: string[]) => cli.pulumi(projectDirectory, ...args);
    succeeded(await pulumi("stack", "init", "github"));
    const run = (program: string, ...args: string[]) => cli.run(projectDirectory, program, ...args);
    return {
      root,
      state: join(cli.directory, "state"),
      run,
      pulumi,
      up: () => pulumi("up", "--yes", "--skip-preview"),
      /** Runs the commands of a section in one shell, from the directory that it names, and returns the screen. */
      async documented(section: string, scenario: "fresh" | "existing" | "once"): Promise<string> {
        const commands = commandsOf(section).filter(({ info }) =>
          ["bash", `bash ${scenario}`].includes(info),
        );
        assert.ok(commands.length > 0);
        const directory = /^cd pipeline$|^pulumi (cancel|refresh)/m.test(commands[0]?.text ?? "")
          ? root
          : projectDirectory;
        const text = commands.map((it) => it.text).join("");
        return succeeded(await cli.run(directory, "bash", "-euo", "pipefail", "-c", inStateFile(text)))
          .screen;
      },
    };
  }
});

/** Returns the commands of a section of docs/pipeline.md. The word behind `bash` says when they apply. */
function commandsOf(section: string): Block[] {
  const blocks = blocksOf(sectionOf(read("docs/pipeline.md"), `## ${section}`));
  return blocks.filter(({ info }) => info.startsWith("bash"));
}

/** Renames the stacks of these commands: a state in files knows no organization. */
function inStateFile(commands: string): string {
  return commands.replaceAll(" acme/github", " github").replaceAll(" acme/eks-pulumi-oidc/dev", " dev");
}

/** Returns a policy document of an exported stack. */
function documentOf(stdout: string, type: string, name: string, key: string): string {
  const resources: { urn: string; inputs: Record<string, unknown> }[] =
    JSON.parse(stdout).deployment.resources;
  return JSON.stringify(resources.find(({ urn }) => urn.endsWith(`:${type}::${name}`))?.inputs[key]);
}

interface Moto {
  url: string;
  stop(): void;
}

/** Starts moto, an AWS account without a cluster. */
async function startMoto(): Promise<Moto> {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const moto = spawn("moto_server", ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(`${url}/moto-api/`).catch(() => undefined)) break;
    await sleep(100);
  }
  return { url, stop: () => void moto.kill() };
}

/** Removes everything from moto, and creates the cluster. */
async function createCluster(motoUrl: string): Promise<void> {
  await fetch(`${motoUrl}/moto-api/reset`, { method: "POST" });
  const cluster = {
    name: "my-cluster",
    roleArn: `arn:aws:iam::${ACCOUNT}:role/cluster`,
    resourcesVpcConfig: {},
  };
  const Authorization = "AWS4-HMAC-SHA256 Credential=test/20260101/us-west-2/eks/aws4_request";
  const headers = { "Content-Type": "application/json", Authorization };
  const response = await fetch(`${motoUrl}/clusters`, {
    method: "POST",
    body: JSON.stringify(cluster),
    headers,
  });
  assert.equal(response.status, 200, await response.text());
}
