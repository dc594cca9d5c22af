// github.sh and what deploy.yml asks GitHub, with the real gh.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { parse } from "yaml";
import { simulationDirectory } from "../../simulator/emulators/certificates";
import { ended } from "../support/childProcess";
import { writePrograms } from "../support/programs";
import { codeIn, ROOT, read, sectionOf } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { type Github, REPOSITORY, SUBJECT_PREFIX, startPipelineCloud } from "./cloud";

const missingTool =
  spawnSync("bash", ["-c", "gh api --help && jq --version"]).status !== 0 &&
  "gh or jq is missing: `bash .ci/run` installs gh";

const REVIEWERS = ["octocat", "acme/platform"];

/** The arguments of `check` for a repository that is set up. */
const CHECKED = [REPOSITORY, SUBJECT_PREFIX, ...REVIEWERS];

/** Less than `protect` requires, in every parameter. */
const WEAK = {
  required_approving_review_count: 0,
  require_code_owner_review: false,
  require_last_push_approval: false,
  dismiss_stale_reviews_on_push: false,
  required_status_checks: [{ context: "checks", integration_id: 1 }],
};

const PROTECTED = { deployment_branch_policy: { protected_branches: true } };
/** Changes what a terminal shows. */
const HIDDEN = "repo:acme\u202e";
const RULES = /, has deletion, non_fast_forward, pull_request, required_status_checks\. /;
const OTHERS = [{ type: "required_reviewers", reviewers: [{ type: "User", reviewer: { id: 1 } }] }];

/** What is open in a repository that was set up, and what `check` reports about it. */
const OPEN: [what: string, change: (github: Github) => unknown, message: RegExp][] = [
  ["no environment", repository({ environments: [] }), /but allows every branch\. /],
  ["an environment for protected branches", environment(PROTECTED), /but allows every branch\. /],
  ["an environment for no branch", repository({ branchPolicies: [] }), /but allows no branch\. /],
  ["an environment for a tag", branch("main", "tag"), /allows branch main, tag main\. .* still trust it/],
  ["another branch", branch("x\u202e"), /but allows branch main, branch x\\xe2\\x80\\xae\. /],
  ["no reviewer", environment({ protection_rules: [] }), /are not those of the configuration/],
  ["other reviewers", environment({ protection_rules: OTHERS }), /are not those of the configuration/],
  ["workflows that can approve", repository({ canApprove: true }), /can approve pull requests/],
  ["another prefix", prefix(HIDDEN), /begin with 'repo:acme\\xe2\\x80\\xae', not with 'repo:acme@11/],
  ["a customized subject", prefix(SUBJECT_PREFIX, false), /customization\/sub -F use_default=true\n/],
  ["a renamed repository", repository({ url: "https://github.com/acme/new" }), /is not the name of a repos/],
  ["no ruleset", repository({ rulesets: [] }), RULES],
  ["a ruleset that is only evaluated", ruleset({ enforcement: "evaluate" }), RULES],
  ["a ruleset that someone can bypass", ruleset({ bypass_actors: [{ actor_id: 5 }] }), RULES],
  ["a ruleset whose bypass list is hidden", ruleset({ bypass_actors: undefined }), RULES],
  ["a ruleset that requires less", parameters(WEAK), RegExp(`, has ${Object.keys(WEAK).join(", ")}\\. `)],
];

describe("github.sh", { skip: missingTool }, () => {
  test("sets up a repository, so that its check prints the ID, in any number of runs", async (t) => {
    const { run, github } = await newRepository(t);
    for (const _ of ["once", "again"]) {
      const next = succeeded(await run("environment", REPOSITORY, ...REVIEWERS));
      assert.match(next, /^ {2}pulumi config set subjectPrefix 'repo:acme@11\/eks-pulumi-oidc@42'$/m);
      assert.match(next, /^ {2}pulumi config set reviewers '\["octocat","acme\/platform"\]'$/m);
      succeeded(await run("protect", REPOSITORY));
      assert.equal(succeeded(await run("check", ...CHECKED)), "42\n");
    }
    // Reviewers that are not configured are not compared.
    assert.equal(succeeded(await run("check", REPOSITORY, SUBJECT_PREFIX)), "42\n");
    const [{ target, conditions, rules } = assert.fail(), ...others] = github.rulesets;
    const onMain = { ref_name: { include: ["refs/heads/main"], exclude: [] } };
    assert.deepEqual([target, conditions, others], ["branch", onMain, []]);
    // GitHub Actions: no other app can report the check.
    const checks = [{ context: "checks", integration_id: 15368 }];
    assert.deepEqual(rules.at(-1)?.parameters?.required_status_checks, checks);
  });

  for (const [problem, change, message] of OPEN) {
    test(`reports ${problem}, and changes nothing`, async (t) => {
      const { run, github, writes } = await newRepository(t, "set up");
      change(github);
      const before = writes.length;
      const { exitCode, stdout, stderr } = await run("check", ...CHECKED);
      assert.match(stderr, message);
      assert.deepEqual([exitCode, stdout, writes.length], [1, "", before]);
    });
  }

  test("reports everything that is open at once, each with the command that fixes it", async (t) => {
    const { run, github } = await newRepository(t);
    github.url = "";
    prefix(HIDDEN)(github);
    const { stderr } = await run("check", ...CHECKED);
    assert.deepEqual(stderr.match(/(?<=^ {2})\S.*/gm), [
      `gh api repos/${REPOSITORY} --jq .html_url`,
      "pulumi config set subjectPrefix $'repo:acme\\342\\200\\256'",
      `bash github.sh environment ${REPOSITORY}`,
      `bash github.sh environment ${REPOSITORY} octocat acme/platform`,
      ...Array(2).fill(`bash github.sh protect ${REPOSITORY}`),
    ]);
  });

  test("counts an organization's ruleset that is as strict, and rules that several rulesets have together", async (t) => {
    const { run, github } = await newRepository(t, "set up");
    const [own = assert.fail()] = github.rulesets;
    const reviews = own.rules.find(({ type }) => type === "pull_request") ?? assert.fail();
    const others = own.rules.filter((rule) => rule !== reviews);
    const reviewsWith = (changes: object) => ({
      ...reviews,
      parameters: { ...reviews.parameters, ...changes },
    });
    github.rulesets = [
      { ...own, id: 70, rules: [reviewsWith({ required_approving_review_count: 2 })] },
      { ...own, id: 71, rules: [...others, reviewsWith({ require_code_owner_review: false })] },
    ];
    assert.equal(succeeded(await run("check", ...CHECKED)), "42\n");
  });

  test("resets its own weakened ruleset, and keeps those of others", async (t) => {
    const { run, github } = await newRepository(t, "set up");
    const others = { id: 9, name: "acme", enforcement: "active", bypass_actors: [], rules: [] };
    const [own = assert.fail()] = github.rulesets;
    github.rulesets = [others, { ...own, enforcement: "disabled", bypass_actors: [{ actor_id: 1 }] }];
    succeeded(await run("protect", REPOSITORY));
    assert.deepEqual(github.rulesets, [others, own]);
  });

  test("keeps the rules of an environment, and leaves main as its only branch", async (t) => {
    const { run, github } = await newRepository(t);
    const reviewers = [{ type: "Team", reviewer: { id: 9 } }];
    const protection_rules = [
      { type: "wait_timer", wait_timer: 30 },
      { type: "required_reviewers", prevent_self_review: true, reviewers },
    ];
    const rules = { can_admins_bypass: false, protection_rules };
    github.environments = ["staging", "Production"].map((name) => ({ name, ...rules }));
    branch("release/*\u202e")(github);
    branch("main", "tag")(github);

    const stdout = succeeded(await run("environment", REPOSITORY));
    assert.match(stdout, /Removed the branch release\/\*\\xe2\\x80\\xae from.*Removed the tag main/s);
    const allowed = { deployment_branch_policy: { protected_branches: false, custom_branch_policies: true } };
    assert.deepEqual(github.environments.at(-1), { name: "production", ...rules, ...allowed });
    assert.deepEqual(github.branchPolicies, [{ id: 3, name: "main", type: "branch" }]);
  });

  test("changes nothing if a reviewer does not exist", async (t) => {
    const { run, writes } = await newRepository(t);
    const { exitCode, stderr } = await run("environment", REPOSITORY, "octocta", "octocat");
    assert.match(stderr, /HTTP 404/);
    assert.deepEqual([exitCode, writes], [1, []]);
  });

  test("shows its usage if an argument is missing", async (t) => {
    const { run } = await newRepository(t);
    for (const args of [[], ["environment"], ["protect"], ["check", "acme/web"]]) {
      const { exitCode, stdout, stderr } = await run(...args);
      assert.match(stderr, /^usage: bash github\.sh environment OWNER\/NAME \[REVIEWER\.\.\.\]\n/);
      assert.deepEqual([exitCode, stdout], [64, ""]);
    }
  });
});

describe("deploy.yml, when it asks GitHub", { skip: missingTool }, () => {
  const [{ run: script }] = parse(read(".github/workflows/deploy.yml")).jobs.deploy.steps;
  const [merged, newer] = ["a".repeat(40), "b".repeat(40)] as const;

  test("deploys the tip of main, and leaves an older commit to the run of the tip, which may be about to start", async (t) => {
    const { ask, github } = await newRun(t, merged);
    assert.deepEqual(await ask(), { exitCode: 0, stdout: "", output: "deploys=true\n", seconds: 0 });

    github.tip = newer;
    const notice = /^::notice title=Not deployed::Commit a{40} is not the tip.*, which is b{40}\./;
    for (const startsAfter of [0, 3]) {
      const { stdout, ...asked } = await ask(startsAfter);
      assert.match(stdout, notice);
      assert.deepEqual(asked, { exitCode: 0, output: "", seconds: startsAfter * 10 });
    }
  });

  test("fails if no run deploys the tip of main, as after [skip ci], or if GitHub does not answer", async (t) => {
    const { ask, github } = await newRun(t, merged);
    github.tip = newer;
    const { stdout, ...skipped } = await ask();
    assert.match(stdout, /^::error title=Not deployed::The tip of main is b{40}, .*Merge another pull re/);
    assert.deepEqual(skipped, { exitCode: 1, output: "", seconds: 70 });

    const { exitCode, output } = await ask(undefined, "acme/other");
    assert.deepEqual([exitCode, output], [1, ""]);
  });

  /** Runs the script for a commit. Its `sleep` only counts. */
  async function newRun(t: TestContext, commit: string) {
    const { environment, github } = await newRepository(t);
    const directory = temporaryDirectory(t);
    const [output, slept] = [join(directory, "output"), join(directory, "slept")];
    const PATH = writePrograms(directory, { sleep: `echo "$1" >>'${slept}'` });
    return {
      github,
      /** @param startsAfter after how many questions the tip of main has a run: never by default. */
      async ask(startsAfter = Number.POSITIVE_INFINITY, repository = REPOSITORY) {
        github.deploysAfter = startsAfter;
        await Promise.all([writeFile(output, ""), writeFile(slept, "")]);
        const variables = { GITHUB_SHA: commit, GITHUB_REPOSITORY: repository, GITHUB_OUTPUT: output };
        const env = { ...environment, ...variables, PATH };
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
  const commands = codeIn(sectionOf(read("docs/pipeline.md"), "## What to watch"), "bash").join("");
  const { stdout, stderr } = await ended(spawn("bash", ["-euc", commands], { env }));
  assert.equal(stdout, "active\n2026-12-01T05:17:00Z\n", stderr);
});

/** GitHub after both commands. */
let setUp: Github | undefined;

/** Starts GitHub with a repository, which `github.sh` has set up if the test says so. */
async function newRepository(t: TestContext, state?: "set up") {
  const { port, github, writes } = await startPipelineCloud(t);
  const environment = {
    ...process.env,
    GH_HOST: `127.0.0.1:${port}`,
    GH_ENTERPRISE_TOKEN: "ghp_0123456789",
    SSL_CERT_FILE: join(simulationDirectory(), "ca.pem"),
  };
  const run = (...args: string[]) =>
    ended(spawn("bash", [join(ROOT, "pipeline", "github.sh"), ...args], { env: environment }));
  if (state) {
    if (!setUp) {
      succeeded(await run("environment", REPOSITORY, ...REVIEWERS));
      succeeded(await run("protect", REPOSITORY));
      setUp = structuredClone(github);
    }
    Object.assign(github, structuredClone(setUp));
  }
  return { github, writes, environment, run };
}

/** Returns the standard output of a program that has ended with success. */
function succeeded({ exitCode, stdout, stderr }: Awaited<ReturnType<typeof ended>>): string {
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

/** Returns a change of the repository. */
function repository(changes: Partial<Github>) {
  return (github: Github) => Object.assign(github, changes);
}

/** Returns a change of how the sub claims of its ID tokens are formed. */
function prefix(sub_claim_prefix: string, use_default = true) {
  return repository({ subject: { use_default, sub_claim_prefix } });
}

/** Returns a change of its environment. */
function environment(changes: object) {
  return ({ environments }: Github) => Object.assign(environments.at(-1) ?? assert.fail(), changes);
}

/** Returns a change that lets one more branch or tag deploy to its environment. */
function branch(name: string, type = "branch") {
  return ({ branchPolicies }: Github) => branchPolicies.push({ id: branchPolicies.length + 1, name, type });
}

/** Returns a change of its ruleset. */
function ruleset(changes: object) {
  return ({ rulesets: [it] }: Github) => Object.assign(it ?? assert.fail(), changes);
}

/** Returns a change of the parameters of the ruleset's rules. */
function parameters(changes: object) {
  return ({ rulesets: [it = assert.fail()] }: Github) =>
    it.rules.map((rule) => Object.assign(rule.parameters ?? {}, changes));
}
