// examples/incident/stop-exchanges.sh, with the CLI and an emulated Pulumi Cloud, of which workloads ask for tokens.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { type AuthPolicy, createIssuer } from "../../simulator/pulumiCloud";
import { serveCloudApi } from "../environment/cloudApi";
import { failed, succeeded } from "../environment/engineOutcome";
import { missingCli, openCli } from "../environment/pulumiCli";
import { DEFAULT_POLICY, startPulumiCloud } from "../environment/pulumiCloud";
import { missingJq } from "../support/programs";
import { ROOT } from "../support/project";

const rules = { sub: "system:serviceaccount:team-a:app" };
const allow = { decision: "allow", rules } as const;
const team = (teamName: string): AuthPolicy => ({ ...allow, tokenType: "team", teamName });
const ORGANIZATION: AuthPolicy = { ...allow, tokenType: "organization" };
const ROLE: AuthPolicy = { ...ORGANIZATION, ...{ roleID: "x" } };
const UNKNOWN: AuthPolicy = { ...allow, tokenType: "agent" as AuthPolicy["tokenType"] };

describe("stop-exchanges.sh", { skip: missingCli || missingJq }, () => {
  test("denies an owner in every issuer, also when run again, and no other owner", async (t) => {
    const { stop, exchange, policies } = await newCloud(t, {
      both: [team("team-a-prod"), team("team-a-dev"), ORGANIZATION],
      // Pulumi Cloud does not distinguish names by case, and rejects an empty list.
      only: [team("Team-A-prod")],
      other: [team("team-a-dev")],
    });
    assert.equal(await exchange("both", "team", "team:team-a-prod"), 200);
    assert.match(succeeded(await stop("team:team-a-prod")).stdout, /^both: denies team:team-a-prod$/m);
    assert.equal(await exchange("both", "team", "team:team-a-prod"), 401);
    assert.equal(await exchange("both", "team", "team:team-a-dev"), 200);

    const { stdout } = succeeded(await stop("team:team-a-prod"));
    assert.match(stdout, /^both: denies team:team-a-prod, as before$/m);
    assert.ok(Math.abs(expirationIn(stdout) - Date.now() - 600_000) < 60_000, stdout);
    assert.deepEqual(policies(), {
      both: ["organization allow", "team-a-dev allow", "team-a-prod deny"],
      only: ["Team-A-prod deny"],
      other: ["team-a-dev allow"],
    });
  });

  test("tells the owners of all types apart, and fails for one that no issuer has a policy for", async (t) => {
    const policyOf: Record<string, AuthPolicy> = {
      "user:x": { ...allow, tokenType: "personal", userLogin: "x" },
      "team:x": team("x"),
      "runner:x": { ...allow, tokenType: "runner", runnerID: "x" },
      "role:x": ROLE,
      organization: ORGANIZATION,
    };
    const { stop, policies } = await newCloud(t, { all: Object.values(policyOf) });
    for (const [index, owner] of Object.keys(policyOf).entries()) {
      succeeded(await stop(owner));
      assert.equal(policies().all?.filter((it) => it.endsWith(" deny")).length, index + 1, owner);
    }
    failed(await stop("team:y"), /^NOT STOPPED: no issuer has a policy for team:y\./m);
    failed(await stop("team"), /^Usage: /m);
  });

  test("denies what a pattern, or a role, grants the owner, and turns back only what it has denied", async (t) => {
    const stopped: AuthPolicy = { ...team("team-a-prod"), decision: "deny" };
    const { stop, undo, exchange, policies } = await newCloud(t, {
      pattern: [team("team-a-*"), team("team-.b")],
      roles: [ROLE, { ...allow, tokenType: "personal", userLogin: "alice" }],
      stopped: [stopped, team("other")],
      untouched: undefined,
    });
    const before = policies();
    assert.equal(await exchange("pattern", "team", "team:team-a-prod"), 200);
    const { stdout } = succeeded(await stop("team:team-a-prod"));
    assert.match(stdout, /^pattern: denies team:team-a-\*$/m);
    assert.equal(await exchange("pattern", "team", "team:team-a-prod"), 401);
    // What a new issuer denies is no policy for the owner.
    assert.doesNotMatch(succeeded(await stop("organization")).stdout, /untouched/);
    assert.deepEqual(policies(), {
      pattern: ["team-.b allow", "team-a-* deny"],
      roles: ["alice allow", "organization deny"],
      stopped: ["other allow", "team-a-prod deny"],
      untouched: ["organization deny"],
    });
    for (const outcome of await undo()) succeeded(outcome);
    assert.deepEqual(policies(), before);
    assert.equal(await exchange("pattern", "team", "team:team-a-prod"), 200);
  });

  test("denies every owner of one issuer, which can be without a maximum", async (t) => {
    const { stop, policies } = await newCloud(
      t,
      { one: [team("a"), ORGANIZATION, UNKNOWN], other: [team("a")] },
      {},
    );
    const { stdout } = succeeded(await stop("issuer:one"));
    assert.ok(Math.abs(expirationIn(stdout) - Date.now() - 90_000_000) < 60_000, stdout);
    assert.deepEqual(policies(), { one: ["a deny", "agent deny", "organization deny"], other: ["a allow"] });
  });

  test("sends back no policy that a new issuer has", async (t) => {
    const { cloud, stop, policies } = await newCloud(t, { one: [team("a")] });
    const [{ registration } = assert.fail()] = cloud.list();
    registration.policies?.push(DEFAULT_POLICY);
    succeeded(await stop("team:a"));
    assert.deepEqual(policies(), { one: ["a deny"] });
  });

  test("fails for a type of token that it does not know, and denies the others", async (t) => {
    const { stop, policies } = await newCloud(t, { one: [UNKNOWN, team("a")], other: [team("a")] });
    failed(await stop("team:a"), /the type agent are\.$/m, /^NOT STOPPED in the issuer one \(.+\)$/m);
    assert.deepEqual(policies(), { one: ["a deny", "agent allow"], other: ["a deny"] });
  });

  test("names the issuer that it could not change, changes the others, and undoes what was stopped", async (t) => {
    const { cloud, stop, undo, policies } = await newCloud(t, { broken: [team("a")], other: [team("a")] });
    const [broken = assert.fail()] = cloud.list();
    const { update } = cloud;
    cloud.update = (id, changes) => {
      if (id === broken.id) throw new Error("unavailable");
      return update(id, changes);
    };
    failed(
      await stop("team:a"),
      RegExp(`^NOT STOPPED in the issuer broken \\(${broken.id.replace("acme/", "")}\\)$`, "m"),
      /^To undo this later: bash .+ undo /m,
    );
    assert.deepEqual(policies(), { broken: ["a allow"], other: ["a deny"] });
    const [outcome = assert.fail()] = await undo();
    failed(outcome, /^NOT RESTORED in the issuer /m);
    assert.deepEqual(policies(), { broken: ["a allow"], other: ["a allow"] });
    cloud.update = update;
    for (const again of await undo()) succeeded(again);
  });
});

/** Returns when issued tokens expire, in milliseconds. */
function expirationIn(stdout: string): number {
  const [, time = ""] = /expire by (.+)\.$/m.exec(stdout) ?? [];
  return Date.parse(time);
}

/**
 * Starts an emulated Pulumi Cloud with these issuers of the organization acme, by their names.
 *
 * @param limit of each issuer.
 */
async function newCloud(
  t: TestContext,
  issuers: Record<string, AuthPolicy[] | undefined>,
  { maxExpirationSeconds }: { maxExpirationSeconds?: number } = { maxExpirationSeconds: 600 },
) {
  const urlOf = (name: string) => `https://${name}.example.com`;
  const clusters = await Promise.all(Object.keys(issuers).map((name) => createIssuer(urlOf(name))));
  const clusterOf = (url: string) => clusters.find((it) => it.url === url) ?? assert.fail(url);
  const cloud = await startPulumiCloud({
    keysOf: async (url) => clusterOf(url).keys,
    registrationMilliseconds: 0,
  });
  const api = await serveCloudApi(cloud);
  t.after(() => Promise.all([api.close(), cloud.close()]));
  for (const [name, policies] of Object.entries(issuers)) {
    await cloud.register({ organization: "acme", name, url: urlOf(name), maxExpirationSeconds, policies });
  }
  const cli = openCli("", { PULUMI_BACKEND_URL: api.origin });
  t.after(cli.remove);
  const run = (...args: string[]) => {
    const script = join(ROOT, "examples", "incident", "stop-exchanges.sh");
    return cli.run(cli.directory, "bash", script, ...args);
  };
  return {
    cloud,
    stop: (owner: string) => run("acme", owner),
    /** Undoes each run. */
    async undo() {
      const files = readdirSync(cli.directory).filter((name) => name.startsWith("stopped-"));
      return Promise.all(files.map((file) => run("undo", file)));
    },
    /** Exchanges an ID token of team-a/app in the cluster of an issuer. Returns the status. */
    async exchange(name: string, tokenType: string, scope: string) {
      const { token } = clusterOf(urlOf(name));
      const form = new URLSearchParams({
        audience: "urn:pulumi:org:acme",
        requested_token_type: `urn:pulumi:token-type:access_token:${tokenType}`,
        scope,
        expiration: "600",
        subject_token: await token({ namespace: "team-a", serviceAccount: "app" }, "urn:pulumi:org:acme"),
      });
      const { status } = await fetch(`${cloud.apiUrl}/api/oauth/token`, { method: "POST", body: form });
      return status;
    },
    /** Returns what each policy of each issuer is for, with its decision. The service returns them in another order. */
    policies: () => {
      const ofIssuer = (all: AuthPolicy[] = []) =>
        all.map((it) => `${it.teamName ?? it.userLogin ?? it.tokenType} ${it.decision}`).sort();
      return Object.fromEntries(
        cloud.list().map(({ registration: { name, policies } }) => [name, ofIssuer(policies)]),
      );
    },
  };
}
