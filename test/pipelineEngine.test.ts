// The pipeline's program on Pulumi's own engine, and the commands of docs/pipeline.md with the real gh, aws and pulumi.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, type TestContext, test } from "node:test";
import { parse, stringify } from "yaml";
import { openCertificateAuthority } from "../simulator/certificates";
import {
  ACCOUNT,
  type Environment,
  type PipelineCloud,
  REPOSITORY,
  SUBJECT_PREFIX,
  startPipelineCloud,
} from "./pipelineCloud";
import { serveProvider } from "./provider";
import { ACCESS_TOKEN, copyProject, missingCli, type Outcome, openCli } from "./pulumiCli";

/** Why nothing here can run, and what to do about it; false if all tools are there. */
const missingTool = missingCli || findMissingTool();

function findMissingTool(): string | false {
  const commands = ["gh variable --help", "jq --version", "aws --version", "moto_server --help"];
  const failing = commands.find((command) => spawnSync("bash", ["-c", command]).status !== 0);
  return failing !== undefined && `\`${failing}\` fails: \`bash .ci/run\` installs what is missing`;
}

const GITHUB_TOKEN = "ghp_0123456789";
const OTHER_POLICIES = [
  { decision: "deny", tokenType: "organization", rules: { sub: "" } },
  { decision: "allow", tokenType: "team", teamName: "web", rules: { sub: "repo:acme/web:*" } },
];

describe("the pipeline on Pulumi's engine", { skip: missingTool }, () => {
  let cloud: PipelineCloud;
  let debugProviders: string;
  before(async () => {
    debugProviders = await serveProvider(() => cloud);
  });

  test("without the environment's branch rule preview and update stop, and nothing is registered", async (t) => {
    const { pulumi } = await newPipeline(t);
    for (const rule of [null, { protected_branches: true, custom_branch_policies: false }]) {
      if (rule)
        cloud.github.environments.push({
          name: "production",
          protection_rules: [],
          deployment_branch_policy: rule,
        });
      for (const command of [["preview"], ["up", "--yes", "--skip-preview"]]) {
        const { exitCode, screen } = await pulumi(...command);
        assert.notEqual(exitCode, 0);
        assert.match(screen, /environment production of acme\/eks-pulumi-oidc: must allow the branch main only/);
        assert.match(screen, /bash github\.sh environment acme\/eks-pulumi-oidc\n/);
      }
    }
    assert.deepEqual(cloud.existing(), []);
    assert.deepEqual(cloud.writes, []);
  });

  test("the documented commands set up a fresh account; twice changes nothing more; destroy leaves nothing", async (t) => {
    const { pulumi, documented } = await newPipeline(t);
    await documented("Set it up", "fresh");
    const standing = cloud.existing();
    assert.equal(standing.length, 14);
    assert.deepEqual(
      cloud.github.branchPolicies.map(({ name, type }) => `${type} ${name}`),
      ["branch main"],
    );
    const [stack] = JSON.parse(cloud.github.variables.get("PULUMI_STACKS") ?? "[]");
    assert.deepEqual(stack, { stack: "acme/eks-pulumi-oidc/dev", organization: "acme", region: "us-west-2" });

    await cloud.rotateCertificate();
    succeeded(await pulumi("preview", "--expect-no-changes"));
    succeeded(await pulumi("refresh", "--yes"));
    succeeded(await pulumi("preview", "--expect-no-changes"));
    const screens = await documented("Set it up", "fresh");
    assert.ok(
      screens.some((screen) => /13 unchanged|15 unchanged|16 unchanged/.test(screen)),
      screens.join(""),
    );
    assert.deepEqual(cloud.existing(), standing);

    const { stdout } = await pulumi("stack", "export", "--show-secrets");
    assert.ok(![ACCESS_TOKEN, GITHUB_TOKEN].some((token) => stdout.includes(token)));

    await documented("Remove it", "fresh");
    assert.deepEqual(cloud.existing(), []);
    assert.deepEqual([...cloud.github.variables], []);
  });

  test("where account and organization know GitHub the documented commands keep what others have", async (t) => {
    const { documented } = await newPipeline(t);
    const arn = `arn:aws:iam::${ACCOUNT}:oidc-provider/${cloud.url.replace("https://", "")}`;
    cloud.oidcProviders.add(arn);
    cloud.issuers.set("acme/1", {
      organization: "acme",
      name: "GitHub",
      url: cloud.url,
      policies: OTHER_POLICIES,
    });
    const [, others] = OTHER_POLICIES;

    for (const _ of ["once", "again"]) {
      await documented("Set it up", "existing");
      const policies = cloud.issuers.get("acme/1")?.policies ?? [];
      assert.deepEqual(policies[0], others);
      assert.deepEqual(
        policies.slice(1).map(({ rules }) => rules.sub?.replace(SUBJECT_PREFIX, "")),
        [":pull_request", ":ref:refs/heads/main", ":environment:production"],
      );
    }

    await documented("Remove it", "existing");
    assert.deepEqual(cloud.existing(), ["acme/1", arn]);
    assert.deepEqual(cloud.issuers.get("acme/1")?.policies, [others]);
  });

  test("policies.sh leaves a deny that matches nothing where no other policy is left", async (t) => {
    const { run, documented } = await newPipeline(t);
    cloud.oidcProviders.add(`arn:aws:iam::${ACCOUNT}:oidc-provider/${cloud.url.replace("https://", "")}`);
    const policies = OTHER_POLICIES.slice(0, 1);
    cloud.issuers.set("acme/1", { organization: "acme", name: "GitHub", url: cloud.url, policies });
    await documented("Set it up", "existing");
    for (const _ of ["once", "again"]) {
      succeeded(await run("bash", "policies.sh", "remove", "acme"));
      assert.deepEqual(cloud.issuers.get("acme/1")?.policies, [
        { decision: "deny", tokenType: "organization", rules: { sub: "none" } },
      ]);
    }
    const unknown = await run("bash", "policies.sh", "add", "globex");
    assert.equal(unknown.exitCode, 1);
    assert.match(unknown.screen, /globex has no issuer/);
  });

  test("github.sh keeps an environment's rules, and leaves main as its only branch", async (t) => {
    const { run } = await newPipeline(t);
    const waitTimer = { type: "wait_timer", wait_timer: 30 };
    const reviewers = [{ type: "Team", reviewer: { id: 9 } }];
    const people = { type: "required_reviewers", prevent_self_review: true, reviewers };
    const rules: Environment["protection_rules"] = [waitTimer, people];
    cloud.github.environments.push({
      name: "production",
      protection_rules: rules,
      deployment_branch_policy: null,
    });
    cloud.github.branchPolicies.push(
      { id: 90, name: "release/*", type: "branch" },
      { id: 91, name: "main", type: "tag" },
    );

    const { screen } = succeeded(await run("bash", "github.sh", "environment", REPOSITORY));
    assert.match(screen, /Removed the branch release\/\*.*Removed the tag main/s);
    assert.match(screen, /pulumi config set subjectPrefix repo:acme@11\/eks-pulumi-oidc@42\n/);
    assert.deepEqual(cloud.github.environments[0]?.protection_rules, rules);
    assert.deepEqual(
      cloud.github.branchPolicies.map(({ name, type }) => `${type} ${name}`),
      ["branch main"],
    );

    succeeded(await run("bash", "github.sh", "environment", REPOSITORY, "octocat", "acme/platform"));
    const [, replaced] = cloud.github.environments[0]?.protection_rules ?? [];
    assert.deepEqual(replaced?.reviewers, [
      { type: "User", reviewer: { id: 7 } },
      { type: "Team", reviewer: { id: 8 } },
    ]);
  });

  test("github.sh stops at the first error, where the plan has no reviewers", async (t) => {
    const { run } = await newPipeline(t);
    cloud.github.hasReviewers = false;
    const { exitCode, screen } = await run("bash", "github.sh", "environment", REPOSITORY, "octocat");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /HTTP 422/);
    assert.doesNotMatch(screen, /Only the branch main/);
    assert.equal(cloud.writes.length, 1);
  });

  test("every other problem is reported at once, and the commands that fix them work", async (t) => {
    const stacks = ["my-cluster", "old-cluster", "no-cluster"].map((clusterName) => ({
      stack: `acme/eks-pulumi-oidc/${clusterName}`,
      clusterName,
      region: "us-west-2",
    }));
    const { pulumi, run } = await newPipeline(t, {
      stacks,
      githubOidcProvider: "existing",
      subjectPrefix: "repo:a/b",
    });
    cloud.clusters.set("us-west-2 old-cluster", { authenticationMode: "CONFIG_MAP", issuer: "https://old" });
    succeeded(await run("bash", "github.sh", "environment", REPOSITORY));

    const { exitCode, screen } = await pulumi("up", "--yes", "--skip-preview");
    assert.notEqual(exitCode, 0);
    assert.match(screen, /\(4 problems\)\. No changes were made/);
    assert.match(screen, /cluster no-cluster in us-west-2: failed to look up: reading EKS Cluster/);
    assert.match(screen, /IAM OIDC provider https:.*: failed to look up: finding IAM OIDC Provider/);
    assert.deepEqual(cloud.existing(), []);

    const fixes = screen.match(/^ {6,}(pulumi config set|aws eks update).*$/gm) ?? [];
    assert.equal(fixes.length, 3, screen);
    for (const fix of fixes) succeeded(await run("bash", "-c", fix.trim()));
    cloud.clusters.set("us-west-2 old-cluster", {
      authenticationMode: "API_AND_CONFIG_MAP",
      issuer: "https://old",
    });
    assert.match((await pulumi("preview")).screen, /\(1 problem\)/);
  });

  test("the command of drift.yml fails with the diff once something was changed by hand", async (t) => {
    const { run, documented } = await newPipeline(t);
    await documented("Set it up", "fresh");
    const workflow = parse(await readFile(join(__dirname, "..", ".github", "workflows", "drift.yml"), "utf8"));
    const commands: string[] = workflow.jobs.drift.steps.flatMap(({ run = "" }: { run?: string }) =>
      /^pulumi/.test(run) ? [run] : [],
    );
    assert.equal(commands.length, 1);
    const drift = () => run("env", "STACK=github", "bash", "-euo", "pipefail", "-c", commands.join());
    succeeded(await drift());

    const [issuer] = cloud.issuers.values();
    if (issuer) issuer.policies = issuer.policies.map((policy) => ({ ...policy, rules: { sub: "repo:acme/*" } }));
    const { exitCode, screen } = await drift();
    assert.notEqual(exitCode, 0);
    assert.match(screen, /~ sub +: "repo:acme\/\*" => "repo:acme@11/);
  });

  test("IAM's grammar accepts the generated documents", async (t) => {
    const { pulumi, run, documented } = await newPipeline(t, {
      rolePolicyArns: ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
      permissionsBoundaryArn: `arn:aws:iam::${ACCOUNT}:policy/boundary`,
      createOidcProvider: true,
    });
    await documented("Set it up", "fresh");
    const { stdout } = await pulumi("stack", "export");
    const { resources }: { resources: { type: string; inputs: Record<string, unknown> }[] } =
      JSON.parse(stdout).deployment;
    const documents = (type: string, key: string) =>
      resources.flatMap((resource) => (resource.type === type ? [JSON.stringify(resource.inputs[key])] : []));

    const trust = documents("aws:iam/role:Role", "assumeRolePolicy");
    const policies = documents("aws:iam/rolePolicy:RolePolicy", "policy");
    assert.equal(trust.length + policies.length, 4);
    for (const [index, document] of trust.entries()) {
      const name = `role-${index}`;
      const role = ["--role-name", name];
      succeeded(await run("aws", "iam", "create-role", ...role, "--assume-role-policy-document", document));
      for (const policy of policies) {
        const args = [...role, "--policy-name", "stack", "--policy-document", policy];
        succeeded(await run("aws", "iam", "put-role-policy", ...args));
      }
    }
    const broken = ["--role-name", "role-0", "--policy-name", "broken", "--policy-document", '{"Statement":[{}]}'];
    assert.notEqual((await run("aws", "iam", "put-role-policy", ...broken)).exitCode, 0);
  });

  async function newPipeline(t: TestContext, config: object = {}) {
    const directory = process.env.SIMULATOR_DIRECTORY ?? "";
    cloud = await startPipelineCloud(await openCertificateAuthority(directory));
    t.after(cloud.close);
    // The SDK prints what a provider throws; the engine hears of it too.
    t.mock.method(console, "error", () => {});
    const port = await startMoto(t);
    const bin = join(directory, `bin-${port}`);
    const cli = await openCli(debugProviders, undefined, {
      PATH: `${bin}:${process.env.PATH}`,
      GH_HOST: cloud.url.replace("https://", ""),
      GH_ENTERPRISE_TOKEN: GITHUB_TOKEN,
      SSL_CERT_FILE: join(directory, "ca.pem"),
      AWS_ENDPOINT_URL: `http://127.0.0.1:${port}`,
      AWS_DEFAULT_REGION: "us-west-2",
      AWS_ACCESS_KEY_ID: "test",
      AWS_SECRET_ACCESS_KEY: "test",
    });
    t.after(cli.remove);
    // The state is in a file, but `pulumi api` needs the service; and no one is there to confirm.
    const real = spawnSync("which", ["pulumi"], { encoding: "utf8" }).stdout.trim();
    await mkdir(bin);
    await writeFile(
      join(bin, "pulumi"),
      `#!/usr/bin/env bash
if [[ $1 == api ]]; then export PULUMI_BACKEND_URL=${cloud.url}; fi
if [[ $1 == up || $1 == destroy ]]; then set -- "$@" --yes --skip-preview; fi
exec ${real} "$@"
`,
      { mode: 0o755 },
    );

    const root = await copyProject(cli, ["simulator", "test", ".ci", ".github"]);
    await symlink(join(__dirname, "..", "node_modules"), join(root, "node_modules"));
    const projectDirectory = join(root, "pipeline");
    const settings = {
      "aws:region": "us-west-2",
      repository: REPOSITORY,
      subjectPrefix: SUBJECT_PREFIX,
      githubIssuerUrl: cloud.url,
      stacks: [{ stack: "acme/eks-pulumi-oidc/dev", clusterName: "my-cluster", region: "us-west-2" }],
      ...config,
    };
    await writeFile(join(projectDirectory, "Pulumi.github.yaml"), stringify({ config: settings }));
    succeeded(await cli.pulumi(projectDirectory, "stack", "init", "github"));
    const run = (program: string, ...args: string[]): Promise<Outcome> => cli.run(projectDirectory, program, ...args);
    return {
      run,
      pulumi: (...args: string[]): Promise<Outcome> => cli.pulumi(projectDirectory, ...args),
      /** Runs the commands of a section, and returns what is on the screen for each block. */
      async documented(section: string, scenario: "fresh" | "existing"): Promise<string[]> {
        const page = await readFile(join(__dirname, "..", "docs", "pipeline.md"), "utf8");
        const [, text = ""] = page.split(`\n## ${section}\n`);
        const blocks = [...(text.split("\n## ")[0] ?? "").matchAll(/^```bash( existing)?\n(.*?)^```/gms)];
        assert.ok(blocks.length > 0);
        const screens: string[] = [];
        for (const [, condition, commands = ""] of blocks) {
          if (condition && scenario === "fresh") continue;
          screens.push(succeeded(await run("bash", "-euo", "pipefail", "-c", commands)).screen);
        }
        return screens;
      },
    };
  }
});

/** Starts moto with the account's GitHub provider and the clusters in it. */
async function startMoto(t: TestContext): Promise<number> {
  const port = 20_000 + Math.floor(Math.random() * 10_000);
  const moto = spawn("moto_server", ["-H", "127.0.0.1", "-p", String(port)], { stdio: "ignore" });
  t.after(() => moto.kill());
  const post = async (path: string, body: string, type: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method: "POST",
      body,
      headers: {
        "Content-Type": type,
        Authorization: `AWS4-HMAC-SHA256 Credential=test/20260101/us-west-2/${path === "/" ? "iam" : "eks"}/aws4_request`,
      },
    });
    assert.equal(response.status, 200, await response.text());
  };
  for (let tries = 0; tries < 100; tries++) {
    if (
      await fetch(`http://127.0.0.1:${port}/moto-api/`).then(
        () => true,
        () => false,
      )
    )
      break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  for (const name of ["my-cluster", "old-cluster"]) {
    const role = `arn:aws:iam::${ACCOUNT}:role/cluster`;
    const cluster = { name, roleArn: role, resourcesVpcConfig: { subnetIds: ["subnet-1"] } };
    await post("/clusters", JSON.stringify(cluster), "application/json");
  }
  return port;
}
function succeeded(outcome: Outcome): Outcome {
  assert.equal(outcome.exitCode, 0, outcome.screen);
  return outcome;
}
