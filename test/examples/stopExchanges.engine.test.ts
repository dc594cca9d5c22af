// examples/incident/stop-exchanges.sh, with the CLI and an emulated Pulumi Cloud.

import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { createLocalJWKSet } from "jose";
import type { AuthPolicy } from "../../simulator/pulumiCloud";
import { serveCloudApi } from "../environment/cloudApi";
import { failed, succeeded } from "../environment/engineOutcome";
import { missingCli, openCli } from "../environment/pulumiCli";
import { startPulumiCloud } from "../environment/pulumiCloud";
import { missingJq } from "../support/programs";
import { ROOT } from "../support/project";

const rules = { iss: "https://example.com" };
const team = (teamName: string): AuthPolicy => ({ decision: "allow", tokenType: "team", teamName, rules });
const ORGANIZATION: AuthPolicy = { decision: "allow", tokenType: "organization", rules };

describe("stop-exchanges.sh", { skip: missingCli || missingJq }, () => {
  test("turns the owner's allow policies into deny policies in every issuer, also when run again, and changes no other policy", async (t) => {
    const { stopExchanges, policies } = await newCloud(t, {
      both: [team("team-a-prod"), team("team-a-dev"), ORGANIZATION],
      // Pulumi Cloud does not distinguish names by case, and rejects an empty list.
      only: [team("Team-A-prod")],
      other: [team("team-a-dev")],
    });
    await stopExchanges("team:team-a-prod");
    const { stdout } = succeeded(await stopExchanges("team:team-a-prod"));
    const [count, expiration = ""] = stdout.split("Its exchanged tokens expire by: ");
    assert.equal(count, "Issuers that deny team:team-a-prod: 2\n");
    assert.ok(Math.abs(Date.parse(expiration.trim()) - Date.now() - 600_000) < 60_000, stdout);
    assert.deepEqual(policies(), {
      both: ["organization allow", "team-a-dev allow", "team-a-prod deny"],
      only: ["Team-A-prod deny"],
      other: ["team-a-dev allow"],
    });
  });

  test("tells the owners of all kinds apart, and fails for one that no issuer has a policy for", async (t) => {
    const policyOf: Record<string, AuthPolicy> = {
      "user:x": { decision: "allow", tokenType: "personal", userLogin: "x", rules },
      "team:x": team("x"),
      "runner:x": { decision: "allow", tokenType: "runner", runnerID: "x", rules },
      "role:x": { ...ORGANIZATION, ...{ roleID: "x" } },
      organization: ORGANIZATION,
    };
    const { stopExchanges, policies } = await newCloud(t, { all: Object.values(policyOf) });
    for (const [index, owner] of Object.keys(policyOf).entries()) {
      succeeded(await stopExchanges(owner));
      assert.equal(policies().all?.filter((it) => it.endsWith(" deny")).length, index + 1, owner);
    }
    failed(await stopExchanges("team:y"), /^Issuers that deny team:y: 0$/m);
  });

  test("names the issuer that it could not change, and changes the others", async (t) => {
    const { cloud, stopExchanges, policies } = await newCloud(t, {
      broken: [team("team-a-prod")],
      other: [team("team-a-prod")],
    });
    const [broken = assert.fail()] = cloud.list();
    const { update } = cloud;
    cloud.update = (id, changes) => {
      if (id === broken.id) throw new Error("unavailable");
      return update(id, changes);
    };
    failed(
      await stopExchanges("team:team-a-prod"),
      RegExp(`^FAILED: issuer ${broken.id.replace("acme/", "")} may `, "m"),
    );
    assert.deepEqual(policies(), { broken: ["team-a-prod allow"], other: ["team-a-prod deny"] });
  });
});

/** Starts an emulated Pulumi Cloud with these issuers of the organization acme, by their names. */
async function newCloud(t: TestContext, issuers: Record<string, AuthPolicy[]>) {
  const cloud = await startPulumiCloud({
    keysOf: async () => createLocalJWKSet({ keys: [] }),
    registrationMilliseconds: 0,
  });
  const api = await serveCloudApi(cloud);
  t.after(() => Promise.all([api.close(), cloud.close()]));
  for (const [name, policies] of Object.entries(issuers)) {
    const url = `https://${name}.example.com`;
    await cloud.register({ organization: "acme", name, url, maxExpirationSeconds: 600, policies });
  }
  const cli = openCli("", { PULUMI_BACKEND_URL: api.origin });
  t.after(cli.remove);
  return {
    cloud,
    stopExchanges: (name: string) => {
      const script = join(ROOT, "examples", "incident", "stop-exchanges.sh");
      return cli.run(cli.directory, "bash", script, "acme", name);
    },
    /** Returns what each policy of each issuer is for, with its decision. The service returns them in another order. */
    policies: () => {
      const ofIssuer = (all: AuthPolicy[] = []) =>
        all.map(({ teamName, tokenType, decision }) => `${teamName ?? tokenType} ${decision}`).sort();
      return Object.fromEntries(
        cloud.list().map(({ registration: { name, policies } }) => [name, ofIssuer(policies)]),
      );
    },
  };
}
