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

interface Step {
  id?: string;
  if?: string;
  uses?: string;
  run?: string;
  with?: Record<string, string | boolean>;
  env?: Record<string, string>;
}

interface Job {
  if?: string;
  uses?: string;
  needs?: string | string[];
  environment?: string;
  permissions?: Record<string, string>;
  concurrency?: object;
  strategy?: { matrix: { include: string } };
  steps?: Step[];
}

interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  jobs: Record<string, Job>;
}

const DIRECTORY = ".github/workflows";
const WORKFLOWS = readdirSync(join(ROOT, DIRECTORY)).map((file) => file.replace(".yml", ""));
const STACK = { stack: "acme/eks-pulumi-oidc/dev", region: "us-west-2" };
const LIST = JSON.stringify([STACK]);

/** The jobs that exchange an ID token, by workflow. */
const PRIVILEGED = ["deploy", "drift", "preview"];

for (const [file, expected] of [
  [undefined, "list=[]\n"],
  [{ repositoryId: "42", stacks: [STACK] }, `list=${LIST}\n`],
  // In a fork, which has a copy of the file.
  [{ repositoryId: "43", stacks: [STACK] }, "list=[]\n"],
  ["", undefined],
  [{ repositoryId: "42" }, undefined],
  [{ repositoryId: "42", stacks: "dev" }, undefined],
] as const) {
  test(`stacks.yml reads ${JSON.stringify(file) ?? "no file"}: ${expected?.trim() ?? "an error"}`, (t) => {
    const directory = temporaryDirectory(t);
    const output = join(directory, "output");
    writeFileSync(output, "");
    mkdirSync(join(directory, ".github"));
    if (file !== undefined) {
      writeFileSync(join(directory, ".github", "pipeline.json"), file && JSON.stringify(file));
    }
    const [script = ""] = (workflow("stacks").jobs.read?.steps ?? []).flatMap(({ run }) => run ?? []);
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
  for (const name of PRIVILEGED) {
    const { stacks, job } = privileged(name);
    assert.equal(stacks.uses, "./.github/workflows/stacks.yml");
    assert.ok([job.needs].flat().includes("stacks"), name);
    assert.equal(job.strategy?.matrix.include, expression("fromJSON(needs.stacks.outputs.list)"), name);

    const team = `team:${expression("matrix.previewTeam")}`;
    const expected: Record<string, Record<string, string>> = {
      "pulumi/auth-actions": {
        organization: expression("matrix.organization"),
        "cloud-url": expression("matrix.pulumiApiUrl"),
        scope: name === "deploy" ? "admin" : team,
      },
      "aws-actions/configure-aws-credentials": {
        "role-to-assume": expression(name === "deploy" ? "matrix.deployRoleArn" : "matrix.previewRoleArn"),
        "aws-region": expression("matrix.region"),
      },
      ...(name !== "drift" && {
        "pulumi/actions": {
          command: name === "deploy" ? "up" : "preview",
          "stack-name": expression("matrix.stack"),
          "cloud-url": expression("matrix.pulumiApiUrl"),
        },
      }),
    };
    for (const [action, inputs] of Object.entries(expected)) {
      const step = job.steps?.find(({ uses }) => uses?.startsWith(`${action}@`)) ?? assert.fail(action);
      assert.deepEqual({ ...step.with, ...inputs }, step.with, `${name} ${action}`);
    }
    for (const { env } of (job.steps ?? []).filter(({ run }) => run?.startsWith("pulumi "))) {
      assert.equal(env?.STACK, expression("matrix.stack"), name);
      assert.equal(env?.PULUMI_BACKEND_URL, expression("matrix.pulumiApiUrl"), name);
    }
  }
});

const PERSON = { type: "User" };
const BOT = { type: "Bot" };

for (const [name, run, expected] of [
  // A matrix without an element would be an error.
  ...PRIVILEGED.map((name) => [name, { list: "[]" }, false] as const),
  ...PRIVILEGED.map((name) => [name, {}, true] as const),
  ["preview", { head: "mallory/eks-pulumi-oidc" }, false],
  ["preview", { author: BOT, actor: BOT }, false],
  // Someone has pushed to the bot's branch.
  ["preview", { author: BOT, actor: PERSON }, false],
  ["drift", { ref: "refs/heads/feature" }, false],
] as const) {
  test(`${name} ${expected ? "starts" : "does not start"} with ${JSON.stringify(run)}`, () => {
    const {
      list = LIST,
      author = PERSON,
      actor = author,
      ref = "refs/heads/main",
      head = "acme/eks-pulumi-oidc",
    }: { list?: string; author?: object; actor?: object; ref?: string; head?: string } = run;
    const pull_request = { user: author, head: { repo: { full_name: head } } };
    const event = { pull_request, sender: actor };
    const { job } = privileged(name);
    const context = {
      needs: { stacks: { outputs: { list } } },
      github: { repository: "acme/eks-pulumi-oidc", ref, actor, event },
    };
    assert.equal(isTrue(job.if, context), expected);
  });
}

test("only a commit of main whose checks passed is deployed, and the checks have no ID token", () => {
  const { on, permissions, jobs } = workflow("deploy");
  assert.deepEqual(on, { push: { branches: ["main"] } });
  assert.deepEqual(permissions, {});
  assert.deepEqual(jobs.deploy?.needs, ["checks", "stacks"]);
  assert.equal(jobs.deploy?.environment, "production");
  // A workflow at a path is the one of the same commit.
  assert.equal(jobs.checks?.uses, "./.github/workflows/checks.yml");
  for (const name of WORKFLOWS) {
    for (const [id, job] of Object.entries(workflow(name).jobs)) {
      const { "id-token": idToken } = job.permissions ?? workflow(name).permissions;
      assert.equal(idToken, PRIVILEGED.includes(id) ? "write" : undefined, `${name} ${id}`);
    }
  }
});

test("the deploy job first asks for the tip of main, and does nothing else unless it is the run's own commit", () => {
  const [first, ...others] = privileged("deploy").job.steps ?? [];
  assert.deepEqual(
    [first?.id, first?.if, first?.env],
    ["tip", undefined, { GH_TOKEN: expression("github.token") }],
  );
  assert.ok(others.length > 0);
  for (const step of others) {
    const deploys = (outputs: object) => isTrue(step.if, { steps: { tip: { outputs } } });
    assert.deepEqual([deploys({}), deploys({ deploys: "true" })], [false, true], step.uses ?? step.run);
  }
});

test("every step uses the commit that started the workflow, and actions at a fixed commit", () => {
  for (const name of WORKFLOWS) {
    const jobs = Object.values(workflow(name).jobs);
    for (const { uses, with: inputs } of jobs.flatMap(({ steps = [] }) => steps)) {
      if (uses) assert.match(uses, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/, name);
      if (!uses?.startsWith("actions/checkout@")) continue;
      assert.equal(inputs?.ref ?? inputs?.repository, undefined, name);
      assert.equal(inputs?.["persist-credentials"], false, name);
    }
    for (const { uses } of jobs.filter((job) => !job.steps))
      assert.match(uses ?? "", /^\.\/\.github\/workflows\//, name);
  }
});

test("updates of a stack wait for each other, and none that waits is canceled", () => {
  const group = `pulumi-${expression("matrix.stack")}`;
  for (const name of PRIVILEGED) {
    const expected = { group, "cancel-in-progress": false, queue: "max" };
    assert.deepEqual(privileged(name).job.concurrency, expected, name);
  }
});

/** Returns an expression as it stands in a workflow. */
function expression(text: string): string {
  return `\${{ ${text} }}`;
}

function workflow(name: string): Workflow {
  return parse(read(`${DIRECTORY}/${name}.yml`));
}

/** Returns the job that exchanges an ID token, whose name is the workflow's, and the one that reads the stacks. */
function privileged(name: string): { stacks: Job; job: Job } {
  const { stacks, [name]: job } = workflow(name).jobs;
  return { stacks: stacks ?? assert.fail(name), job: job ?? assert.fail(name) };
}

/** Evaluates the `if` of a job or a step, whose expressions are also those of JavaScript. */
function isTrue(condition = "true", context: object): boolean {
  // A status function would start it although something has failed.
  assert.doesNotMatch(condition, /\b(always|failure|cancelled|success)\(/);
  return Boolean(runInNewContext(condition.replace(/(\w)\.(?=\w)/g, "$1?."), context));
}
