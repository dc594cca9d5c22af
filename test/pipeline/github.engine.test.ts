// github.sh and what deploy.yml asks GitHub, with the real gh.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { simulationDirectory } from "../../simulator/emulators/certificates";
import { ended } from "../support/childProcess";
import { blocksOf, ROOT, read, sectionOf } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { type PipelineCloud, REPOSITORY, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";

type Github = PipelineCloud["github"];

const missingTool =
  spawnSync("bash", ["-c", "gh api --help && jq --version"]).status !== 0 &&
  "gh or jq is missing: `bash .ci/run` installs gh";

const PROTECT = /\n {2}bash github\.sh protect acme\/eks-pulumi-oidc\n/;
const ENVIRONMENT = /\n {2}bash github\.sh environment acme\/eks-pulumi-oidc\n/;

/** What is open in a repository that was set up, and what `check` reports about it. */
const OPEN: Record<string, [change: Partial<Github> | ((github: Github) => unknown), ...messages: RegExp[]]> =
  {
    "no environment": [{ environments: [] }, /only the main branch, but allows every branch/],
    "an environment for protected branches": [
      ({ environments: [it] }) =>
        Object.assign(it ?? {}, { deployment_branch_policy: { protected_branches: true } }),
      /only the main branch, but allows every branch/,
      ENVIRONMENT,
    ],
    "an environment for no branch": [{ branchPolicies: [] }, /but allows no branch/, ENVIRONMENT],
    "an environment for a tag": [
      ({ branchPolicies }) => branchPolicies.push({ id: 9, name: "main", type: "tag" }),
      /but allows branch main, tag main\. Identities that exist already still trust it/,
    ],
    "a branch whose name changes what a terminal shows": [
      ({ branchPolicies }) => branchPolicies.push({ id: 9, name: "x\u202e", type: "branch" }),
      /branch x\\xe2\\x80\\xae\. Identities/,
    ],
    "another reviewer": [
      ({ environments: [it] }) =>
        it?.protection_rules.push({ reviewers: [{ type: "User", reviewer: { id: 1 } }] }),
      /reviewers of the production environment of acme\/eks-pulumi-oidc are not those of the configuration/,
      /\n {2}bash github\.sh environment acme\/eks-pulumi-oidc octocat acme\/platform\n/,
    ],
    "no reviewer": [
      ({ environments: [it] }) => it?.protection_rules.splice(0),
      /are not those of the config/,
    ],
    "workflows that can approve": [
      { canApprove: true },
      /The workflows of .* can approve pull requests/,
      PROTECT,
    ],
    "a subject prefix that changes what a terminal shows": [
      { subject: { use_default: true, sub_claim_prefix: "repo:acme\u202e" } },
      /begin with 'repo:acme\\xe2\\x80\\xae', not with 'repo:acme@11/,
      /config set subjectPrefix \$'repo:acme\\342\\200\\256'\n/,
    ],
    "a customized subject": [
      { subject: { use_default: false, sub_claim_prefix: SUBJECT_PREFIX } },
      /gh api -X PUT repos\/acme\/eks-pulumi-oidc\/actions\/oidc\/customization\/sub -F use_default=true\n/,
    ],
    "a renamed repository": [
      { url: "https://github.com/acme/renamed" },
      /is not the name of a repository on github\.com/,
    ],
    "no ruleset": [
      { rulesets: [] },
      /has deletion, non_fast_forward, pull_request, required_status_checks\. To create one:\n/,
      PROTECT,
    ],
    "a ruleset that is only evaluated": [ruleset({ enforcement: "evaluate" }), /has deletion, non_fast/],
    "a ruleset that someone can bypass": [
      ruleset({ bypass_actors: [{ actor_id: 5, actor_type: "RepositoryRole", bypass_mode: "always" }] }),
      /that no one can bypass, has deletion, non_fast_forward, pull_request/,
    ],
    "a ruleset whose bypass list is hidden": [
      ({ rulesets: [it] }) => delete it?.bypass_actors,
      /that no one can bypass, has deletion/,
    ],
    "no approval": [parameter("pull_request", "required_approving_review_count", 0), /required_approving/],
    "no code owners": [parameter("pull_request", "require_code_owner_review", false), /require_code_owner/],
    "no approval of the last push": [
      parameter("pull_request", "require_last_push_approval", false),
      /has require_last_push_approval\. To/,
    ],
    "stale approvals": [parameter("pull_request", "dismiss_stale_reviews_on_push", null), /dismiss_stale_re/],
    "the check of another app": [
      parameter("required_status_checks", "required_status_checks", [
        { context: "checks", integration_id: 1 },
      ]),
      /has required_status_checks\. To create one:/,
    ],
  };

describe("github.sh", { skip: missingTool }, () => {
  test("sets up a repository, so that its check prints the ID, in any number of runs", async (t) => {
    const { run, cloud } = await newRepository(t);
    for (const _ of ["once", "again"]) {
      const next = succeeded(await run("environment", REPOSITORY, "octocat", "acme/platform"));
      assert.match(next, /^ {2}pulumi config set subjectPrefix 'repo:acme@11\/eks-pulumi-oidc@42'$/m);
      assert.match(next, /^ {2}pulumi config set reviewers '\["octocat","acme\/platform"\]'$/m);
      succeeded(await run("protect", REPOSITORY));
      assert.equal(succeeded(await run("check", ...CHECKED)), "42\n");
    }
    // Whatever is on top of it, such as the organization's rules, stays.
    assert.deepEqual(cloud.github.rulesets, [
      {
        id: 1,
        name: "pipeline",
        target: "branch",
        enforcement: "active",
        bypass_actors: [],
        conditions: { ref_name: { include: ["refs/heads/main"], exclude: [] } },
        rules: [
          { type: "deletion" },
          { type: "non_fast_forward" },
          {
            type: "pull_request",
            parameters: {
              required_approving_review_count: 1,
              require_code_owner_review: true,
              require_last_push_approval: true,
              dismiss_stale_reviews_on_push: true,
              required_review_thread_resolution: false,
            },
          },
          {
            type: "required_status_checks",
            parameters: {
              required_status_checks: [{ context: "checks", integration_id: 15368 }],
              strict_required_status_checks_policy: false,
            },
          },
        ],
      },
    ]);
  });

  for (const [problem, [change, ...messages]] of Object.entries(OPEN)) {
    test(`reports ${problem}, and changes nothing`, async (t) => {
      const { run, cloud } = await newRepository(t, "set up");
      if (typeof change === "function") change(cloud.github);
      else Object.assign(cloud.github, change);
      const writes = cloud.writes.length;
      const { exitCode, stdout, stderr } = await run("check", ...CHECKED);
      assert.equal(exitCode, 1, stderr);
      assert.equal(stdout, "");
      for (const message of messages) assert.match(stderr, message);
      assert.equal(cloud.writes.length, writes);

      if (!messages.includes(PROTECT)) return;
      succeeded(await run("protect", REPOSITORY));
      succeeded(await run("check", ...CHECKED));
    });
  }

  test("reports everything that is open at once, and ignores reviewers that are not configured", async (t) => {
    const { run, cloud } = await newRepository(t, "set up");
    const { github } = cloud;
    Object.assign(github, { canApprove: true, rulesets: [], branchPolicies: [], url: "" });
    github.environments[0]?.protection_rules.splice(0);
    const { stderr } = await run("check", REPOSITORY, "repo:acme/eks-pulumi-oidc");
    for (const part of [
      "can approve",
      "is not protected",
      "allows no branch",
      "not the name",
      "sub claims",
    ]) {
      assert.ok(stderr.includes(part), part);
    }
    assert.doesNotMatch(stderr, /reviewers/);
  });

  test("counts an organization's ruleset that is as strict, and rules that several rulesets have together", async (t) => {
    const { run, cloud } = await newRepository(t, "set up");
    const [own] = cloud.github.rulesets;
    assert.ok(own);
    const [deletion, push, reviews, checks] = own.rules;
    assert.ok(deletion && push && reviews && checks);
    const strict = { ...reviews.parameters, required_approving_review_count: 2 };
    const weak = { ...reviews.parameters, require_code_owner_review: false };
    cloud.github.rulesets = [
      { ...own, id: 70, name: "acme", rules: [deletion, push, { type: "pull_request", parameters: strict }] },
      { ...own, id: 71, name: "ci", rules: [checks, { type: "pull_request", parameters: weak }] },
    ];
    assert.equal(succeeded(await run("check", ...CHECKED)), "42\n");
  });

  test("resets its own weakened ruleset, and keeps those of others", async (t) => {
    const { run, cloud } = await newRepository(t, "set up");
    const others = { id: 9, name: "acme", enforcement: "active", bypass_actors: [], rules: [] };
    const [own] = cloud.github.rulesets;
    assert.ok(own);
    cloud.github.rulesets = [others, { ...own, enforcement: "disabled", bypass_actors: [{ actor_id: 1 }] }];
    succeeded(await run("protect", REPOSITORY));
    assert.deepEqual(cloud.github.rulesets, [others, own]);
  });

  test("keeps the rules of an environment, and leaves main as its only branch", async (t) => {
    const { run, cloud } = await newRepository(t);
    const { github } = cloud;
    const reviewers = [{ type: "Team", reviewer: { id: 9 } }];
    const rules = [
      { type: "wait_timer", wait_timer: 30 },
      { type: "required_reviewers", prevent_self_review: true, reviewers },
    ];
    const existing = { can_admins_bypass: false, protection_rules: rules, deployment_branch_policy: null };
    github.environments = ["staging", "Production"].map((name) => ({ ...existing, name }));
    const release = { id: 90, name: "release/*\u202e", type: "branch" };
    github.branchPolicies.push(release, { id: 91, name: "main", type: "tag" });

    const stdout = succeeded(await run("environment", REPOSITORY));
    assert.match(stdout, /Removed the branch release\/\*\\xe2\\x80\\xae from.*Removed the tag main/s);
    const { protection_rules, can_admins_bypass } = github.environments.at(-1) ?? assert.fail();
    assert.deepEqual([protection_rules, can_admins_bypass], [rules, false]);
    assert.deepEqual(github.branchPolicies, [{ id: 3, name: "main", type: "branch" }]);

    // A plan without reviewers.
    github.hasReviewers = false;
    const writes = cloud.writes.length;
    const { exitCode, stderr } = await run("environment", REPOSITORY, "octocat");
    assert.notEqual(exitCode, 0);
    assert.match(stderr, /HTTP 422/);
    assert.equal(cloud.writes.length, writes + 1);
  });

  for (const args of [[], ["environment"], ["protect"], ["check", "acme/web"]]) {
    test(`shows its usage for: ${args.join(" ") || "no command"}`, async (t) => {
      const { run } = await newRepository(t);
      const { exitCode, stdout, stderr } = await run(...args);
      assert.deepEqual([exitCode, stdout], [64, ""]);
      assert.match(stderr, /^usage: bash github\.sh environment OWNER\/NAME \[REVIEWER\.\.\.\]\n/);
    });
  }
});

describe("deploy.yml, when it asks GitHub", { skip: missingTool }, () => {
  const { jobs } = parse(read(".github/workflows/deploy.yml"));
  const [{ run: script }] = jobs.deploy.steps;
  const [merged, newer] = ["a".repeat(40), "b".repeat(40)];
  assert.ok(merged && newer);

  test("deploys the tip of main, and leaves an older commit to the run of the tip, which may be about to start", async (t) => {
    const { ask, cloud } = await newRun(t, merged);
    assert.deepEqual(await ask(), { exitCode: 0, stdout: "", output: "deploys=true\n", seconds: 0 });

    cloud.github.tip = newer;
    for (const [startsAfter, seconds] of [
      [0, 0],
      [3, 30],
    ] as const) {
      const asked = await ask(startsAfter);
      assert.match(
        asked.stdout,
        /^::notice title=Not deployed::Commit a{40} is not the tip.*, which is b{40}\./,
      );
      assert.deepEqual([asked.exitCode, asked.output, asked.seconds], [0, "", seconds]);
    }
  });

  test("fails if no run deploys the tip of main, as after [skip ci], or if GitHub does not answer", async (t) => {
    const { ask, cloud } = await newRun(t, merged);
    cloud.github.tip = newer;
    const skipped = await ask();
    assert.match(
      skipped.stdout,
      /^::error title=Not deployed::The tip of main is b{40}, .*Merge another pull re/,
    );
    assert.deepEqual([skipped.exitCode, skipped.output], [1, ""]);
    assert.ok(skipped.seconds >= 60, String(skipped.seconds));

    cloud.github.tip = "";
    const unanswered = await ask(undefined, "acme/other");
    assert.deepEqual([unanswered.exitCode, unanswered.output, unanswered.seconds], [1, "", 0]);
  });

  test("has a token that can read the runs, and nothing else", () => {
    assert.deepEqual(jobs.deploy.permissions, { actions: "read", contents: "read", "id-token": "write" });
  });

  /** Runs the script for a commit. Its `sleep` only counts. */
  async function newRun(t: TestContext, commit: string) {
    const { environment, cloud } = await newRepository(t);
    const directory = temporaryDirectory(t);
    const [output, slept] = [join(directory, "output"), join(directory, "slept")];
    await writeFile(join(directory, "sleep"), `#!/bin/sh\necho "$1" >>'${slept}'\n`, { mode: 0o755 });
    return {
      cloud,
      /** @param startsAfter after how many questions the tip of main has a run: never by default. */
      async ask(startsAfter = Number.POSITIVE_INFINITY, repository = REPOSITORY) {
        const { github } = cloud;
        let questions = 0;
        Object.defineProperty(github, "deployed", {
          configurable: true,
          get: () => (questions++ >= startsAfter ? [github.tip] : []),
        });
        await Promise.all([writeFile(output, ""), writeFile(slept, "")]);
        const variables = { GITHUB_SHA: commit, GITHUB_REPOSITORY: repository, GITHUB_OUTPUT: output };
        const env = { ...environment, ...variables, PATH: `${directory}${delimiter}${process.env.PATH}` };
        // https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
        const { exitCode, stdout } = await ended(spawn("bash", ["-e", "-c", script], { env }));
        const seconds = (await readFile(slept, "utf8")).split("\n").reduce((sum, it) => sum + Number(it), 0);
        return { exitCode, stdout, output: await readFile(output, "utf8"), seconds };
      },
    };
  }
});

test("docs/pipeline.md shows whether drift.yml runs, by its last completed run for main", {
  skip: missingTool,
}, async (t) => {
  const { environment: env } = await newRepository(t);
  const commands = blocksOf(sectionOf(read("docs/pipeline.md"), "## What to watch"))
    .filter(({ info }) => info === "bash")
    .map(({ text }) => text);
  const { stdout, stderr } = await ended(spawn("bash", ["-euc", commands.join("")], { env }));
  assert.equal(stdout, "active\n2026-12-01T05:17:00Z\n", stderr);
});

/** The arguments of `check` for a repository that is set up. */
const CHECKED = [REPOSITORY, SUBJECT_PREFIX, "octocat", "acme/platform"];

/** GitHub after both commands. */
let setUp: Github | undefined;

/** Starts GitHub with a repository, which `github.sh` has set up if the test says so. */
async function newRepository(t: TestContext, state?: "set up") {
  const cloud = await startPipelineCloud(t);
  const environment = {
    ...process.env,
    GH_HOST: `127.0.0.1:${cloud.port}`,
    GH_ENTERPRISE_TOKEN: "ghp_0123456789",
    SSL_CERT_FILE: join(simulationDirectory(), "ca.pem"),
  };
  const run = (...args: string[]) =>
    ended(spawn("bash", [join(ROOT, "pipeline", "github.sh"), ...args], { env: environment }));
  if (state) {
    if (!setUp) {
      succeeded(await run("environment", REPOSITORY, "octocat", "acme/platform"));
      succeeded(await run("protect", REPOSITORY));
      setUp = structuredClone(cloud.github);
    }
    Object.assign(cloud.github, structuredClone(setUp));
  }
  return { cloud, environment, run };
}

/** Returns the standard output of a program that has ended with success. */
function succeeded({ exitCode, stdout, stderr }: Awaited<ReturnType<typeof ended>>): string {
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

/** Returns a change of the repository's ruleset. */
function ruleset(changes: object) {
  return ({ rulesets: [it] }: Github): void => void Object.assign(it ?? assert.fail(), changes);
}

/** Returns a change of a parameter of a rule. */
function parameter(type: string, key: string, value: unknown) {
  return ({ rulesets: [it] }: Github): void => {
    const { parameters } = it?.rules.find((rule) => rule.type === type) ?? assert.fail(type);
    Object.assign(parameters ?? {}, { [key]: value });
  };
}
