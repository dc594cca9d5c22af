// The workflows: what decides what they preview, where, and as whom, when they run, and what they can do.

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

/** The jobs that exchange an ID token, by the names of their workflows. All others can only read the repository. */
const PRIVILEGED = ["drift", "preview"] as const;
const PERMISSIONS: Record<string, object> = {
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

test("the file decides what is previewed, where, and as whom, and no variable or secret of the repository does", () => {
  for (const name of WORKFLOWS) {
    assert.doesNotMatch(read(`${DIRECTORY}/${name}.yml`), /\b(vars|secrets|inputs)\b *[.[]/, name);
  }
  const [url, stack] = [expression("matrix.pulumiApiUrl"), expression("matrix.stack")];
  for (const name of PRIVILEGED) {
    const { stacks, [name]: job } = workflow(name).jobs;
    const steps: Step[] = job.steps;
    assert.equal(stacks.uses, "./.github/workflows/stacks.yml");
    assert.equal(job.needs, "stacks");
    assert.equal(job.strategy.matrix.include, expression("fromJSON(needs.stacks.outputs.list)"), name);

    const inputsOf = (action: string) =>
      steps.find(({ uses }) => uses?.startsWith(`${action}@`))?.with ?? assert.fail(`${name} ${action}`);
    assert.deepEqual(inputsOf("pulumi/auth-actions"), {
      "cloud-url": url,
      organization: expression("matrix.organization"),
      "requested-token-type": "urn:pulumi:token-type:access_token:team",
      scope: `team:${expression("matrix.previewTeam")}`,
      "token-expiration": 900,
    });
    assert.deepEqual(inputsOf("aws-actions/configure-aws-credentials"), {
      "role-to-assume": expression("matrix.previewRoleArn"),
      "role-duration-seconds": 900,
      "aws-region": expression("matrix.region"),
    });
    const run = inputsOf("pulumi/actions");
    const expected = name === "preview" ? ["preview", stack, url] : Array(3).fill(undefined);
    assert.deepEqual([run.command, run["stack-name"], run["cloud-url"]], expected, name);
    for (const { env } of steps.filter((step) => step.run?.startsWith("pulumi "))) {
      assert.deepEqual(env, { STACK: stack, PULUMI_BACKEND_URL: url });
    }
  }
});

test("no workflow changes a stack", () => {
  const jobs = WORKFLOWS.flatMap((name) => Object.values<Job>(workflow(name).jobs));
  for (const { run = "", with: inputs } of jobs.flatMap(({ steps }) => steps ?? [])) {
    assert.doesNotMatch(run, /\bpulumi\b(?! preview )/);
    assert.ok([undefined, "preview"].includes(inputs?.command as string));
  }
});

for (const [name, run, expected] of [
  // A matrix without an element would be an error.
  ...PRIVILEGED.map((name) => [name, { list: "[]" }, false] as const),
  ...PRIVILEGED.map((name) => [name, {}, true] as const),
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

test("only the jobs that preview have an ID token", () => {
  for (const name of WORKFLOWS) {
    const { permissions: ofAll, jobs } = workflow(name);
    for (const id of Object.keys(jobs)) {
      const { permissions = ofAll } = jobs[id];
      assert.deepEqual(permissions, PERMISSIONS[id] ?? { contents: "read" }, `${name} ${id}`);
    }
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
