// examples/trial/trial.ts against the emulated Pulumi Cloud, which misbehaves in ways that must not become a verdict, and the list of
// what the emulators assume.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Misbehavior, page } from "../environment/proxy";
import { startWorld, type World } from "../environment/trial";
import { ended, missingProgram } from "../support/programs";
import { ROOT, read, sectionOf } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";
import { temporaryDirectory } from "../support/temporaryDirectory";

/** The IDs of the program's questions. */
const IDS = [...read("examples/trial/trial.ts").matchAll(/^ {2}"?([\w-]+)"?: \{\s+asks:/gm)].map(
  ([, id = ""]) => id,
);
assert.equal(IDS.length, 14);

const POLICIES = /^PATCH .*\/auth\/policies\//;
const EXCHANGE = "POST /api/oauth/token";
const FORBIDDEN = { status: 403, content: '{"code": 403, "message": "Forbidden"}' };

const notAsked = (...ids: string[]) => Object.fromEntries(ids.map((id) => [id, "not asked"]));

interface Case {
  world: () => World;
  args?: string[];
  /** The verdicts that are not `held`. */
  verdicts: Record<string, string>;
  exitCode: number;
  prints?: RegExp;
  /** What is left. */
  left?: string[];
}

/** Replies to the first request of each kind. */
function once(misbehave: Misbehavior): Misbehavior {
  const seen = new Set<string>();
  return (call, forward, content) => {
    const kind = call.replace(/[0-9a-f-]{36}/, "ID");
    if (seen.has(kind)) return undefined;
    seen.add(kind);
    return misbehave(call, forward, content);
  };
}

/** Lets a change of the policies be effective later. */
function late(milliseconds: number): Misbehavior {
  return (call, forward) => {
    if (!POLICIES.test(call)) return undefined;
    setTimeout(() => forward().catch(() => {}), milliseconds).unref();
    return { status: 200, content: '{"id": "1", "version": 2, "policies": []}' };
  };
}

/** Replies to changes of the policies that contain a string. */
function onPolicies(part: string, reply: Misbehavior): Misbehavior {
  return (call, forward, content) => {
    return POLICIES.test(call) && content.includes(part) ? reply(call, forward, content) : undefined;
  };
}

const reject: Misbehavior = () => ({
  status: 400,
  content: '{"code": 400, "message": "Bad Request: roleID"}',
});

const ASSUMED = { verdicts: {}, exitCode: 0, prints: /^This project works here as it is\.$/m };
const WITHOUT_LISTS = {
  verdicts: { "aud-list": "not" },
  exitCode: 3,
  prints: /^This project works here, with a setting\.\n\n- `aud-list`: set `audienceRule: false`\.\n$/m,
};
const AFTER_A_CHANGE = [
  "removed",
  "aud-other",
  "aud-list",
  "org-token",
  "org-role",
  "open-only",
  "wrong-role",
  "job",
];

const CASES: Record<string, Case> = {
  "what the emulators assume": { world: () => ({}), ...ASSUMED },
  "a rule that matches no list": { world: () => ({ matchesLists: false }), ...WITHOUT_LISTS },
  "late policies": { world: () => ({ misbehave: late(500) }), ...ASSUMED },
  "late policies, and a rule that matches no list": {
    world: () => ({ matchesLists: false, misbehave: late(500) }),
    ...WITHOUT_LISTS,
  },
  "policies that are too late": {
    world: () => ({ misbehave: late(1500), waitSeconds: 1 }),
    verdicts: notAsked(...AFTER_A_CHANGE),
    exitCode: 2,
    prints: /^\| `removed` .* \| not asked \| no change of the policies was effective in 1 s \|$/m,
  },
  "a rule on `aud` without an effect": {
    world: () => ({
      misbehave: onPolicies('"aud"', (_, forward, content) =>
        forward(content.replaceAll(/,"aud":"[^"]*"/g, "")),
      ),
    }),
    verdicts: { "aud-other": "not", ...notAsked("aud-list") },
    exitCode: 1,
    prints: /^This project does not work here\.\n\n- `aud-other`/m,
  },
  "a removed service account that is still granted": {
    world: () => ({
      misbehave: (call, forward, content) => {
        if (!POLICIES.test(call) || content.includes('"other"')) return undefined;
        const { policies } = JSON.parse(content);
        const [trial] = policies;
        const rules = { ...trial.rules, '"kubernetes.io".serviceaccount.name': "other" };
        const other = { ...trial, teamName: "pulumi-trial-other", rules };
        return forward(JSON.stringify({ policies: [...policies, other] }));
      },
    }),
    verdicts: { removed: "not" },
    exitCode: 1,
  },
  "a page of a proxy instead of each denial": {
    world: () => ({
      async misbehave(call, forward) {
        const reply = await forward();
        return call === EXCHANGE && reply.status === 400 ? page(403) : reply;
      },
    }),
    verdicts: notAsked("unlisted", "error-form", "other-account", ...AFTER_A_CHANGE),
    exitCode: 2,
    prints: /^\| `unlisted` .* \| not asked \| HTTP 403: <html>/m,
  },
  "a page of a proxy instead of each exchange": {
    world: () => ({ misbehave: (call) => (call === EXCHANGE ? page(403) : undefined) }),
    verdicts: notAsked(...IDS.filter((id) => id !== "own-token" && id !== "stale-thumbprint")),
    exitCode: 2,
  },
  "an outage that denies everything, from the second exchange on": {
    world: () => {
      let exchanges = 0;
      return {
        misbehave(call) {
          if (call === EXCHANGE) exchanges += 1;
          return call === EXCHANGE && exchanges > 2 ? FORBIDDEN : undefined;
        },
      };
    },
    verdicts: notAsked("unlisted", "error-form", "other-account", ...AFTER_A_CHANGE),
    exitCode: 2,
    prints: /^\| `unlisted` .* \| not asked \| the control is denied, too: HTTP 403: Forbidden \|$/m,
  },
  "status 500 for the first request of each kind": {
    world: () => ({ misbehave: once(() => page(500)) }),
    ...ASSUMED,
  },
  "a lost answer to the first request of each kind": {
    world: () => ({
      misbehave: once(async (_, forward) => {
        await forward();
        throw new Error("lost");
      }),
    }),
    ...ASSUMED,
  },
  "a lost answer of a stack's creation": failingProgram("pulumi stack init", "error: EOF"),
  "a lost answer of the first update": failingProgram("pulumi up", "error: EOF"),
  "a lost answer of a service account's creation": failingProgram("kubectl create serviceaccount", "EOF"),
  "another trial that began at the same time": {
    ...failingProgram("pulumi stack init", "error: stack 'acme/trial' already exists"),
    // It is the other one's.
    left: ["acme/trial"],
  },
  "a page instead of the list of issuers, once they are removed": {
    world: () => {
      let isRemoving = false;
      return {
        fails(command) {
          isRemoving ||= command.startsWith("pulumi destroy");
          return undefined;
        },
        misbehave: (call) => (isRemoving && call.endsWith("/oidc/issuers") ? page(200) : undefined),
      };
    },
    verdicts: {},
    exitCode: 2,
    prints:
      /^This is left:\n\n- the OIDC issuer pulumi-trial \(acme\): could not be looked up: HTTP 200: <html>/m,
  },
  "a role that can't be removed": {
    world: () => ({ misbehave: (call) => (/^DELETE .*\/roles\//.test(call) ? page(502) : undefined) }),
    verdicts: {},
    exitCode: 2,
    prints: /^This is left:\n\n- the custom role pulumi-trial \(acme\)$/m,
    left: ["pulumi-trial"],
  },
  "a user's token": {
    world: () => ({}),
    args: ["--user", "bob"],
    ...ASSUMED,
  },
  "no custom roles": {
    world: () => ({ misbehave: (call) => (call === "POST /api/orgs/acme/roles" ? FORBIDDEN : undefined) }),
    verdicts: notAsked("org-role", "open-only", "wrong-role"),
    exitCode: 0,
    prints:
      /^\| `org-role` .* \| not asked \| the custom role pulumi-trial \(acme\) was not created: HTTP 403: Forbidden/m,
  },
  "a rejected policy for an organization token without a role, and for one with the ID of no role": {
    world: () => ({
      misbehave: (call, forward, content) =>
        content.includes('"organization"') && !/"roleID":"(?!0{8})/.test(content)
          ? onPolicies('"organization"', reject)(call, forward, content)
          : undefined,
    }),
    verdicts: { "org-token": "not" },
    exitCode: 3,
    prints: /^- `org-token`: set `organizationRoleId` /m,
  },
  "another status of a denial, and an update that rejects a stale thumbprint": {
    world: () => ({
      updatesCompareThumbprints: true,
      async misbehave(call, forward) {
        const reply = await forward();
        return call === EXCHANGE && reply.status === 400 ? { ...reply, status: 422 } : reply;
      },
    }),
    verdicts: { "error-form": "not", "stale-thumbprint": "not" },
    exitCode: 0,
    prints: /^- `error-form`: .*\n- `stale-thumbprint`: /m,
  },
  "a Job that is denied": {
    world: () => jobWorld(FORBIDDEN),
    verdicts: { job: "not" },
    exitCode: 1,
  },
  "a Job without an answer": {
    world: () => jobWorld(page(503)),
    verdicts: notAsked("job"),
    exitCode: 2,
    prints: /^\| `job` .* \| not asked \| exchange-token: .* HTTP 503: <html>/m,
  },
};

/** A program that does what it should, and fails. */
function failingProgram(start: string, message: string): Case {
  return {
    world: () => ({ fails: (command) => (command.startsWith(start) ? message : undefined) }),
    verdicts: notAsked(...IDS.filter((id) => id !== "own-token")),
    exitCode: 2,
    prints: RegExp(`^\\| \`team-token\` .* \\| not asked \\| .*${message} `, "m"),
  };
}

/** Replies to the exchange of the Job's pod. */
function jobWorld(reply: { status: number; content: string }): World {
  let isJob = false;
  return {
    starts(command) {
      isJob = /^pulumi up .*--config=runJob=true/.test(command);
    },
    misbehave: (call) => (call === EXCHANGE && isJob ? reply : undefined),
  };
}

describe("a trial", { concurrency: 4 }, () => {
  for (const [what, { world, args = [], verdicts, exitCode, prints = /./, left = [] }] of Object.entries(
    CASES,
  )) {
    test(`with ${what}`, async (t) => {
      const trial = await startWorld(t, world());
      const { stdout, stderr, ...outcome } = await trial.start("--yes", ...args).outcome;
      const asked = IDS.filter((id) => id !== "own-token" || args.includes("--user"));
      const expected = { ...Object.fromEntries(asked.map((id) => [id, "held"])), ...verdicts };
      assert.deepEqual(outcome.verdicts, expected, stdout + stderr);
      assert.match(stdout, prints);
      assert.equal(outcome.exitCode, exitCode, stdout + stderr);
      assert.deepEqual(trial.left(), left);
      assert.equal(/^Nothing is left\.$/m.test(stdout), !/^This is left/m.test(stdout));
      assertNoToken(stdout + stderr + trial.calls.join("\n"));
    });
  }

  test("asks with a team without members, and uses one context", async (t) => {
    const members: string[] = [];
    const trial = await startWorld(t, {
      starts: (command) => {
        if (command.startsWith("pulumi up")) members.push(...trial.organization.members());
      },
    });
    await trial.start("--yes").outcome;
    assert.deepEqual(members, []);
    const others = trial.calls.filter(
      (call) => call.startsWith("kubectl") && !call.includes("--context=context"),
    );
    assert.deepEqual(others, ["kubectl config current-context"]);
  });

  for (const [signal, at] of [
    ["SIGHUP", "POST /api/orgs/acme/teams/pulumi"],
    ["SIGINT", "POST /api/orgs/acme/roles"],
    ["SIGINT", "PATCH /api/orgs/acme/auth/policies/"],
    ["SIGHUP", EXCHANGE],
    ["SIGTERM", "pulumi stack init"],
    ["SIGINT", "pulumi up"],
    ["SIGHUP", "pulumi destroy"],
  ] as const) {
    test(`removes everything after ${signal} during ${at}`, async (t) => {
      let running: ReturnType<typeof trial.start> | undefined;
      const interrupt = async (call: string) => {
        if (!call.startsWith(at)) return;
        running?.child.kill(signal);
        await sleep(200);
      };
      const trial = await startWorld(t, {
        starts: interrupt,
        async misbehave(call) {
          await interrupt(call);
          return undefined;
        },
      });
      running = trial.start("--yes");
      const { stdout, stderr, exitCode, verdicts } = await running.outcome;
      assert.equal(Object.keys(verdicts).length, IDS.length - 1);
      assert.match(stdout, /^Nothing is left\.$/m);
      const isRemoving = /destroy|DELETE/.test(at);
      assert.equal(exitCode, isRemoving ? 0 : 2, stdout + stderr);
      assert.equal(/\| not asked \| stopped/.test(stdout), !isRemoving);
      assert.doesNotMatch(stderr, /could not be removed/);
      assert.deepEqual(trial.left(), []);
    });
  }

  const missingPython = missingProgram("python3", "https://www.python.org/downloads/");

  test("removes everything after its terminal is closed", { skip: missingPython }, async (t) => {
    const trial = await startWorld(t);
    const child = spawn("python3", ["-c", CLOSING_TERMINAL, ...trial.command], {
      env: trial.environment,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout, stderr } = await ended(child);
    assert.equal(stdout.trim(), "2", stderr);
    assert.ok(trial.calls.some((call) => call.includes("destroy")));
    assert.deepEqual(trial.left(), []);
  });

  test("creates nothing without a confirmation, or if what it would create exists", async (t) => {
    const trial = await startWorld(t);
    const unconfirmed = trial.start("--user", "bob");
    unconfirmed.child.stdin.end();
    const { stderr, exitCode } = await unconfirmed.outcome;
    assert.match(stderr, /a token of bob, which is valid in all organizations of bob\./);
    assert.match(stderr, /^Continue\? \[y\/N\] Nothing was created\.$/m);
    assert.equal(exitCode, 64);

    const confirmed = trial.start();
    confirmed.child.stdin.end("n\n");
    assert.equal((await confirmed.outcome).exitCode, 64);
    assert.deepEqual(trial.left(), []);

    await trial.cloud.register({ organization: "acme", name: "eks-prod", url: trial.issuer.url });
    const existing = await trial.start("--yes").outcome;
    assert.match(existing.stderr, /must not exist:\n- the OIDC issuer pulumi-trial \(acme\)$/m);
    assert.equal(existing.exitCode, 2);
    assert.deepEqual(trial.left(), ["issuer"]);
    assert.deepEqual(trial.cloud.exchanges, []);
  });

  test("creates nothing with a page instead of the list of issuers", async (t) => {
    const misbehave: Misbehavior = (call) => (call.endsWith("/oidc/issuers") ? page(200) : undefined);
    const trial = await startWorld(t, { misbehave });
    const { stderr, exitCode } = await trial.start("--yes").outcome;
    assert.match(
      stderr,
      /^- the OIDC issuer pulumi-trial \(acme\): could not be looked up: HTTP 200: <html>/m,
    );
    assert.equal(exitCode, 2);
    assert.ok(!trial.calls.some((call) => /stack init|create/.test(call)));
  });

  test("takes the access token of the CLI's login for this Pulumi Cloud, and of no other", async (t) => {
    const home = temporaryDirectory(t);
    const trial = await startWorld(t);
    Object.assign(trial.environment, { PULUMI_ACCESS_TOKEN: "", PULUMI_CREDENTIALS_PATH: home });
    const logIn = (url: string) => {
      const accessTokens = { [url]: ACCESS_TOKEN };
      writeFileSync(join(home, "credentials.json"), JSON.stringify({ current: url, accessTokens }));
    };
    logIn("https://api.pulumi.com");
    const other = await trial.start("--yes").outcome;
    assert.match(other.stderr, /^No access token for http:\/\/127\.0\.0\.1:\d+: run pulumi login/m);
    assert.equal(other.exitCode, 2);

    logIn(trial.apiUrl);
    const { child, outcome } = trial.start();
    child.stdin.end();
    assert.match((await outcome).stderr, /Nothing was created\.$/m);
  });
});

test("what the emulators assume names its question or says that it has none, also in simulator/README.md", () => {
  const files = ["simulator/emulators", "test/environment"].flatMap((directory) => {
    return readdirSync(join(ROOT, directory)).map((file) => read(join(directory, file)));
  });
  const marks = files.flatMap((file) => [...file.matchAll(/\bAssumed\b(?!")(?: \(([\w, -]+)\))?.*/g)]);
  const named = marks.flatMap(([text, ids = assert.fail(text)]) => ids.split(", "));
  const assumed = sectionOf(read("simulator/README.md"), "## Assumed");
  const listed = [...assumed.matchAll(/^\| `?([\w -]+?)`? \|/gm)].map(([, id]) => id).slice(2);
  assert.deepEqual([...new Set(named)].sort(), [...new Set(listed)].sort());
  assert.deepEqual(
    [...new Set(named)].filter((id) => !IDS.includes(id)),
    ["not asked"],
  );
});

/** Runs a command in a terminal, closes that once a question is answered, and prints the exit code. */
const CLOSING_TERMINAL = `
import os, pty, sys
process, terminal = pty.fork()
if process == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
printed = b""
while b"team-token" not in printed:
    printed += os.read(terminal, 1024)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
`;

function assertNoToken(text: string): void {
  const idToken = Buffer.from('{"alg":').toString("base64url").slice(0, -1);
  assert.doesNotMatch(text, RegExp(`pul-[0-9a-f]{40}|${idToken}`));
}
