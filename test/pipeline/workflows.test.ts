// The workflows: what decides what they deploy, where, and as whom, when they run, and what they wait for.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
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
  concurrency?: { group: string };
  strategy?: { matrix: { include: string } };
  "timeout-minutes"?: number;
  steps?: Step[];
}

interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  concurrency: { group: string; "cancel-in-progress": string };
  jobs: Record<string, Job>;
}

const DIRECTORY = ".github/workflows";
const TEXTS = Object.fromEntries(
  readdirSync(join(ROOT, DIRECTORY)).map((file) => [file, read(`${DIRECTORY}/${file}`)]),
);
const STACK = { stack: "acme/eks-pulumi-oidc/dev", region: "us-west-2" };

/** The jobs that exchange an ID token, by workflow. */
const PRIVILEGED = ["deploy", "drift", "preview"];

for (const [name, file, expected] of [
  ["without the file, there is no stack", undefined, "[]"],
  ["the file's list is the output", { repositoryId: "42", stacks: [STACK] }, JSON.stringify([STACK])],
  [
    "in a fork, which has a copy of the file, there is no stack",
    { repositoryId: "43", stacks: [STACK] },
    "[]",
  ],
] as const) {
  test(name, (t) => {
    const { status, output, stderr } = readStacks(t, file && JSON.stringify(file));
    assert.equal(status, 0, stderr);
    assert.equal(output, `list=${expected}\n`);
  });
}

test("an invalid file stops the workflow", (t) => {
  for (const content of ["", "{", '{ "repositoryId": "42" }', '{ "repositoryId": "42", "stacks": "dev" }']) {
    const { status, output } = readStacks(t, content);
    assert.notEqual(status, 0, content);
    assert.equal(output, "", content);
  }
});

test("the file decides what is deployed, where, and as whom, and no variable or secret of the repository does", () => {
  for (const [file, text] of Object.entries(TEXTS)) {
    assert.doesNotMatch(text, /\b(vars|secrets|inputs)\b *[.[]/, file);
  }
  for (const name of PRIVILEGED) {
    const { stacks, job } = privileged(name);
    assert.equal(stacks.uses, "./.github/workflows/stacks.yml");
    assert.ok([job.needs].flat().includes("stacks"), name);
    assert.equal(job.strategy?.matrix.include, expression("fromJSON(needs.stacks.outputs.list)"), name);

    const role = name === "deploy" ? "deployRoleArn" : "previewRoleArn";
    const [login] = stepsUsing(job, "pulumi/auth-actions");
    const [assume] = stepsUsing(job, "aws-actions/configure-aws-credentials");
    assert.equal(login?.with?.organization, expression("matrix.organization"), name);
    assert.equal(login?.with?.["cloud-url"], expression("matrix.pulumiApiUrl"), name);
    assert.equal(
      login?.with?.scope,
      name === "deploy" ? "admin" : `team:${expression("matrix.previewTeam")}`,
      name,
    );
    assert.equal(assume?.with?.["role-to-assume"], expression(`matrix.${role}`), name);
    assert.equal(assume?.with?.["aws-region"], expression("matrix.region"), name);
    for (const { with: inputs } of stepsUsing(job, "pulumi/actions").filter((step) => step.with?.command)) {
      assert.equal(inputs?.["stack-name"], expression("matrix.stack"), name);
      assert.equal(inputs?.["cloud-url"], expression("matrix.pulumiApiUrl"), name);
    }
    for (const { env } of (job.steps ?? []).filter(({ run }) => run?.startsWith("pulumi "))) {
      assert.equal(env?.STACK, expression("matrix.stack"), name);
      assert.equal(env?.PULUMI_BACKEND_URL, expression("matrix.pulumiApiUrl"), name);
    }
  }
});

test("a list that is empty starts no job with a matrix, which would be an error", () => {
  for (const name of PRIVILEGED) {
    const { stacks, job } = privileged(name);
    assert.equal(stacks.if, undefined, "the first job always runs");
    assert.equal(starts(job, { list: "[]" }), false, name);
    assert.equal(starts(job, { list: JSON.stringify([STACK]) }), true, name);
  }
});

test("a preview runs for a person's pull request, and not for a fork's or an update bot's", () => {
  const { job } = privileged("preview");
  const bot = { login: "renovate[bot]", type: "Bot" };
  const person = { login: "octocat", type: "User" };
  for (const [author, actor, head, expected] of [
    [person, person, "acme/eks-pulumi-oidc", true],
    [person, person, "mallory/eks-pulumi-oidc", false],
    [bot, bot, "acme/eks-pulumi-oidc", false],
    // Someone has pushed to the bot's branch.
    [bot, person, "acme/eks-pulumi-oidc", false],
  ] as const) {
    assert.equal(starts(job, { author, actor, head }), expected, `${author.login} ${actor.login} ${head}`);
  }
});

test("drift is compared with main only", () => {
  const { job } = privileged("drift");
  assert.equal(starts(job, { ref: "refs/heads/feature" }), false);
});

test("only a commit of main whose checks passed is deployed, and the checks have no ID token", () => {
  const { on, permissions, jobs } = workflow("deploy");
  assert.deepEqual(on, { push: { branches: ["main"] } });
  assert.deepEqual(permissions, {});
  assert.deepEqual(jobs.deploy?.needs, ["checks", "stacks"]);
  // A status function would start the job although another one has failed.
  assert.doesNotMatch(jobs.deploy?.if ?? "", /\b(always|failure|cancelled|success)\(/);
  assert.equal(jobs.deploy?.environment, "production");

  // A workflow at a path is the one of the same commit.
  assert.equal(jobs.checks?.uses, "./.github/workflows/checks.yml");
  assert.ok("workflow_call" in workflow("checks").on);
  for (const name of Object.keys(TEXTS).map((file) => file.replace(".yml", ""))) {
    for (const [id, job] of Object.entries(workflow(name).jobs)) {
      const { "id-token": idToken } = job.permissions ?? workflow(name).permissions;
      assert.equal(idToken, PRIVILEGED.includes(id) ? "write" : undefined, `${name} ${id}`);
    }
  }
});

test("the deploy job first asks for the tip of main, and does nothing else unless it is the run's own commit", () => {
  const [first, ...others] = privileged("deploy").job.steps ?? [];
  assert.equal(first?.id, "tip");
  assert.equal(first?.if, undefined);
  assert.deepEqual(first?.env, { GH_TOKEN: expression("github.token") });
  assert.match(first?.run ?? "", /gh api "repos\/\$GITHUB_REPOSITORY\/git\/ref\/heads\/main"/, "no tag");

  assert.ok(others.length > 0);
  for (const step of others) {
    const runs = (outputs: object) => Boolean(evaluate(step.if ?? "true", { steps: { tip: { outputs } } }));
    assert.equal(runs({}), false, step.uses ?? step.run);
    assert.equal(runs({ deploys: "true" }), true, step.uses ?? step.run);
    // A status function would run the step although the first one has failed.
    assert.doesNotMatch(step.if ?? "", /\b(always|failure|cancelled|success)\(/);
  }
});

test("every step uses the commit that started the workflow, and actions at a fixed commit", () => {
  for (const name of Object.keys(TEXTS).map((file) => file.replace(".yml", ""))) {
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

test("a push cancels the checks of its pull request's previous commit, and no checks of main", () => {
  const { concurrency } = workflow("checks");
  const run = (event_name: string, run_id: number, number?: number) => ({
    github: { event_name, run_id, event: number === undefined ? {} : { pull_request: { number } } },
  });
  const group = (context: object) => evaluate(concurrency.group, { event: {}, ...context });
  assert.equal(group(run("pull_request", 1, 7)), group(run("pull_request", 2, 7)));
  assert.notEqual(group(run("pull_request", 1, 7)), group(run("pull_request", 2, 8)));
  assert.equal(evaluate(concurrency["cancel-in-progress"], run("pull_request", 1, 7)), true);

  assert.notEqual(group(run("push", 1)), group(run("push", 2)));
  assert.equal(evaluate(concurrency["cancel-in-progress"], run("push", 1)), false);
});

test("the checks are those of .ci/run with its tools cached, and types and format in a copy without it", () => {
  const { checks } = workflow("checks").jobs;
  const executed = (hash: string) => {
    const steps = (checks?.steps ?? []).filter(
      (step) => !step.if || evaluate(step.if, { hashFiles: () => hash }),
    );
    return steps.map(({ run, uses }) => run ?? uses?.split("@")[0]);
  };
  const setup = ["actions/checkout", "actions/setup-node"];
  assert.deepEqual(executed("1a2b"), [...setup, "actions/cache", "bash .ci/run"]);
  assert.deepEqual(executed(""), [...setup, "npm ci && npm run check"]);
  assert.equal(checks?.["timeout-minutes"], 90);
  const [cache] = stepsUsing(checks ?? {}, "actions/cache");
  assert.equal(cache?.with?.path, "~/.cache/eks-pulumi-oidc");
});

test("updates of a stack wait for each other, and none that waits is canceled", () => {
  for (const name of PRIVILEGED) {
    const { job } = privileged(name);
    const expected = {
      group: `pulumi-${expression("matrix.stack")}`,
      "cancel-in-progress": false,
      queue: "max",
    };
    assert.deepEqual(job.concurrency, expected, name);
  }
});

/** Returns an expression as it stands in a workflow. */
function expression(text: string): string {
  return `\${{ ${text} }}`;
}

function workflow(name: string): Workflow {
  return parse(TEXTS[`${name}.yml`] ?? assert.fail(`no workflow ${name}`));
}

/** Returns the job that exchanges an ID token, whose name is the workflow's, and the one that reads the stacks. */
function privileged(name: string): { stacks: Job; job: Job } {
  const { stacks, [name]: job } = workflow(name).jobs;
  return { stacks: stacks ?? assert.fail(name), job: job ?? assert.fail(name) };
}

function stepsUsing(job: Job, action: string): Step[] {
  return (job.steps ?? []).filter(({ uses }) => uses?.startsWith(`${action}@`));
}

/** Runs the script of stacks.yml, with the content of .github/pipeline.json. */
function readStacks(t: TestContext, content: string | undefined) {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, ".github"));
  if (content !== undefined) writeFileSync(join(directory, ".github", "pipeline.json"), content);
  return runScript(directory, workflow("stacks").jobs.read ?? {}, { GITHUB_REPOSITORY_ID: "42" });
}

/** Runs the first script of a job in a directory, and returns what it has printed, and its outputs. */
function runScript(directory: string, job: Job, variables: Record<string, string>) {
  const outputFile = join(directory, "output");
  writeFileSync(outputFile, "");
  const [script = ""] = (job.steps ?? []).flatMap(({ run }) => run ?? []);
  // https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
  const { status, stdout, stderr } = spawnSync("bash", ["-e", "-c", script], {
    cwd: directory,
    env: { ...process.env, GITHUB_OUTPUT: outputFile, ...variables },
    encoding: "utf8",
  });
  return { status, stdout, stderr, output: readFileSync(outputFile, "utf8") };
}

interface Run {
  list?: string;
  author?: object;
  actor?: object;
  head?: string;
  ref?: string;
}

/** Returns whether a job starts, in a run that would otherwise start it. */
function starts(job: Job, run: Run): unknown {
  const {
    list = JSON.stringify([STACK]),
    author = { type: "User" },
    actor = author,
    ref = "refs/heads/main",
  } = run;
  const repository = "acme/eks-pulumi-oidc";
  const pull_request = { user: author, head: { repo: { full_name: run.head ?? repository } } };
  return evaluate(job.if ?? "true", {
    needs: { stacks: { outputs: { list } } },
    github: { repository, ref, actor, event: { pull_request, sender: actor } },
  });
}

/** Evaluates an expression of GitHub Actions that is also one of JavaScript; text around it makes it a string. */
function evaluate(text: string, context: object): unknown {
  const guarded = (expression: string) => expression.replace(/(\w)\.(?=\w)/g, "$1?.");
  const run = (expression: string) => runInNewContext(guarded(expression), context);
  const [, only] = /^\$\{\{(.*)\}\}$/s.exec(text) ?? [];
  if (only !== undefined) return run(only);
  if (!/\$\{\{/.test(text)) return run(text);
  return text.replace(/\$\{\{(.*?)\}\}/g, (_, expression) => String(run(expression)));
}
