// The workflows: what decides what they deploy, where, and as whom, when they run, and what they wait for.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { parse } from "yaml";
import { ROOT, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";

type Step = Partial<Record<"id" | "if" | "uses" | "run", string>> & {
  with?: Record<string, unknown>;
  env?: Record<string, string>;
};

type Job = { uses?: string; steps?: Step[] };

const DIRECTORY = ".github/workflows";
const WORKFLOWS = readdirSync(join(ROOT, DIRECTORY)).map((file) => file.replace(".yml", ""));
const LIST = '[{"stack":"acme/eks-pulumi-oidc/dev","region":"us-west-2"}]';

const READER = { role: "previewRoleArn", scope: `team:${expression("matrix.previewTeam")}`, seconds: 900 };

/** The jobs that exchange an ID token, by the names of their workflows, and whom they act as. */
const PRIVILEGED = {
  deploy: { command: "up", role: "deployRoleArn", scope: "admin", seconds: 3600 },
  drift: { command: undefined, ...READER },
  preview: { command: "preview", ...READER },
};
const NAMES = ["deploy", "drift", "preview"] as const;

/** What these jobs can do in the repository. All others can only read. */
const PERMISSIONS: Record<string, object> = {
  deploy: { actions: "read", contents: "read", "id-token": "write" },
  drift: { contents: "read", "id-token": "write" },
  preview: { contents: "read", "id-token": "write", "pull-requests": "write" },
};

for (const [file, expected] of [
  [undefined, "list=[]\n"],
  [`{"repositoryId":"42","stacks":${LIST}}`, `list=${LIST}\n`],
  // In a fork, which has a copy of the file.
  [`{"repositoryId":"43","stacks":${LIST}}`, "list=[]\n"],
  ["", undefined],
  ['{"repositoryId":"42","stacks":"dev"}', undefined],
] as const) {
  test(`stacks.yml reads ${file ?? "no file"}: ${expected?.trim() ?? "an error"}`, (t) => {
    const directory = temporaryDirectory(t);
    const output = join(directory, "output");
    writeFileSync(output, "");
    mkdirSync(join(directory, ".github"));
    if (file !== undefined) writeFileSync(join(directory, ".github", "pipeline.json"), file);
    const { run: script } = workflow("stacks").jobs.read.steps.find((step: Step) => step.run);
    // https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
    const { status, stderr } = spawnSync("bash", ["-e", "-c", script], {
      cwd: directory,
      env: { ...process.env, GITHUB_OUTPUT: output, GITHUB_REPOSITORY_ID: "42" },
      encoding: "utf8",
    });
    assert.equal(status === 0, expected !== undefined, stderr);
    assert.equal(readFileSync(output, "utf8"), expected ?? "");
  });
}

test("the file decides what is deployed, where, and as whom, and no variable or secret of the repository does", () => {
  for (const name of WORKFLOWS) {
    assert.doesNotMatch(read(`${DIRECTORY}/${name}.yml`), /\b(vars|secrets|inputs)\b *[.[]/, name);
  }
  const [url, stack] = [expression("matrix.pulumiApiUrl"), expression("matrix.stack")];
  for (const name of NAMES) {
    const { stacks, [name]: job } = workflow(name).jobs;
    const steps: Step[] = job.steps;
    assert.equal(stacks.uses, "./.github/workflows/stacks.yml");
    assert.ok([job.needs].flat().includes("stacks"), name);
    assert.equal(job.strategy.matrix.include, expression("fromJSON(needs.stacks.outputs.list)"), name);

    const { command, role, scope, seconds } = PRIVILEGED[name];
    const inputsOf = (action: string) =>
      steps.find(({ uses }) => uses?.startsWith(`${action}@`))?.with ?? assert.fail(`${name} ${action}`);
    assert.deepEqual(inputsOf("pulumi/auth-actions"), {
      "cloud-url": url,
      organization: expression("matrix.organization"),
      "requested-token-type": `urn:pulumi:token-type:access_token:${scope === "admin" ? "organization" : "team"}`,
      scope,
      "token-expiration": seconds,
    });
    assert.deepEqual(inputsOf("aws-actions/configure-aws-credentials"), {
      "role-to-assume": expression(`matrix.${role}`),
      "role-duration-seconds": seconds,
      "aws-region": expression("matrix.region"),
    });
    const run = inputsOf("pulumi/actions");
    const expected = command ? [command, stack, url] : Array(3).fill(undefined);
    assert.deepEqual([run.command, run["stack-name"], run["cloud-url"]], expected, name);
    for (const { env } of steps.filter((step) => step.run?.startsWith("pulumi "))) {
      assert.deepEqual(env, { STACK: stack, PULUMI_BACKEND_URL: url });
    }
  }
});

for (const [name, run, expected] of [
  // A matrix without an element would be an error.
  ...NAMES.map((name) => [name, { list: "[]" }, false] as const),
  ...NAMES.map((name) => [name, {}, true] as const),
  ["preview", { head: "mallory/eks-pulumi-oidc" }, false],
  // Even if a person has pushed to the bot's branch, and is the actor.
  ["preview", { author: "Bot" }, false],
  ["drift", { ref: "refs/heads/feature" }, false],
] as const) {
  test(`${name} ${expected ? "starts" : "does not start"} with ${JSON.stringify(run)}`, () => {
    const usual = { list: LIST, author: "User", ref: "refs/heads/main", head: "acme/eks-pulumi-oidc" };
    const { list, author, ref, head } = { ...usual, ...run };
    const pull_request = { user: { type: author }, head: { repo: { full_name: head } } };
    const event = { pull_request, sender: { type: "User" } };
    const github = { repository: "acme/eks-pulumi-oidc", ref, event };
    const context = { needs: { stacks: { outputs: { list } } }, github };
    assert.equal(isTrue(workflow(name).jobs[name].if, context), expected);
  });
}

test("only a commit of main whose checks passed is deployed, and no other job has an ID token", () => {
  const { on, permissions, jobs } = workflow("deploy");
  assert.deepEqual([on, permissions], [{ push: { branches: ["main"] } }, {}]);
  assert.deepEqual(jobs.deploy.needs, ["checks", "stacks"]);
  assert.equal(jobs.deploy.environment, "production");
  assert.equal(jobs.checks.uses, "./.github/workflows/checks.yml");
  for (const name of WORKFLOWS) {
    const { permissions: ofAll, jobs } = workflow(name);
    for (const id of Object.keys(jobs)) {
      const { permissions = ofAll } = jobs[id];
      assert.deepEqual(permissions, PERMISSIONS[id] ?? { contents: "read" }, `${name} ${id}`);
    }
  }
});

test("the deploy job first asks for the tip of main, and does nothing else unless it is the run's own commit", () => {
  const [{ run: _, ...rest }, ...others] = workflow("deploy").jobs.deploy.steps;
  assert.deepEqual(rest, { id: "tip", env: { GH_TOKEN: expression("github.token") } });
  assert.ok(others.length > 0);
  for (const step of others) {
    const deploys = (outputs: object) => isTrue(step.if, { steps: { tip: { outputs } } });
    assert.deepEqual([deploys({}), deploys({ deploys: "true" })], [false, true], step.uses ?? step.run);
  }
});

test("every step uses the commit that started the workflow, and actions at a fixed commit", () => {
  const jobs = WORKFLOWS.flatMap((name) => Object.values<Job>(workflow(name).jobs));
  const steps = jobs.flatMap((job) => job.steps ?? []);
  for (const { uses } of [...jobs, ...steps]) {
    // A workflow at a path is the one of the same commit.
    if (uses) assert.match(uses, /^(\.\/\.github\/workflows\/|[\w-]+\/[\w-]+@[0-9a-f]{40}$)/);
  }
  for (const { with: inputs } of steps.filter(({ uses }) => uses?.startsWith("actions/checkout@"))) {
    const { ref, repository, "persist-credentials": persists } = inputs ?? {};
    assert.deepEqual([ref, repository, persists], [undefined, undefined, false]);
  }
});

test("updates of a stack wait for each other, and none that waits is canceled", () => {
  const group = `pulumi-${expression("matrix.stack")}`;
  for (const name of NAMES) {
    const { concurrency } = workflow(name).jobs[name];
    assert.deepEqual(concurrency, { group, "cancel-in-progress": false, queue: "max" }, name);
  }
});

/** Returns an expression as it stands in a workflow. */
function expression(text: string): string {
  return `\${{ ${text} }}`;
}

function workflow(name: string) {
  return parse(read(`${DIRECTORY}/${name}.yml`));
}

/** Evaluates the `if` of a job or a step, whose expressions are also those of JavaScript. */
function isTrue(condition = "true", context: object): boolean {
  // A status function would start it although something has failed.
  assert.doesNotMatch(condition, /\b(always|failure|cancelled|success)\(/);
  return Boolean(runInNewContext(condition.replace(/(\w)\.(?=\w)/g, "$1?."), context));
}
