// Over arbitrary names and callers: Pulumi Cloud allows only the configured service account, and only for the configured token.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { allowPolicy } from "../../oidcIssuer";
import type { Account } from "../../settings/access";
import { decide } from "../../simulator/emulators/authPolicy";
import { accepted } from "../support/accounts";

const AUDIENCE = "urn:pulumi:org:acme";

/** A valid name, often one of the shortest. */
const name = fc.stringMatching(/^[ab0z]([ab0-]{0,18}[ab0])?$/);

/** This string half of the time, or one that looks like it. */
function nearly(value: string): fc.Arbitrary<string> {
  const odd = fc.constantFrom(".", "*", "?", "-", "a", "A", "\u0430", "\uff41", "\u0000", " ", "\n", ":", "");
  const changed = fc.record({ at: fc.nat(value.length), removed: fc.nat(1), odd }).map((change) => {
    return value.slice(0, change.at) + change.odd + value.slice(change.at + change.removed);
  });
  const others = fc.constantFrom(value.toUpperCase(), "", "*", "?", ".", `${value}.${value}`);
  return fc.oneof({ weight: 3, arbitrary: fc.constant(value) }, changed, others, name);
}

const token = fc.oneof(
  fc.record({ tokenType: fc.constant("personal"), userLogin: fc.constantFrom("alice", "a.b", "a_b") }),
  fc.record({ tokenType: fc.constant("team"), teamName: fc.constantFrom("ops", "ops-eu") }),
  fc.constant({ tokenType: "runner", runnerId: "id-1", runnerName: "pool" }),
  fc.record({ tokenType: fc.constant("organization"), organizationAdmin: fc.boolean() }),
);
const RUNNERS = ["pool", "pool-2"].map((name, index) => ({ id: `id-${index + 1}`, name }));

/** Another token than a service account's own. */
const other = fc.record({
  tokenType: fc.constantFrom("personal", "team", "runner", "organization"),
  scope: fc.constantFrom(
    ..."user:alice user:a-b team:ops team:ops-eu runner:pool runner:pool-2 admin".split(" "),
    "",
  ),
});

/** Several service accounts of one stack, with and without the rule on the audience. */
const accounts = fc
  .uniqueArray(fc.record({ namespace: name, name, audienceRule: fc.boolean(), token }), {
    minLength: 1,
    maxLength: 4,
    selector: ({ namespace, name }) => `${namespace}/${name}`,
  })
  .map((entries) => accepted(entries.map(({ token, ...own }) => ({ ...own, ...token }))));

const audience = fc.constantFrom(AUDIENCE, "sts.amazonaws.com", `${AUDIENCE}.example`);

/** A caller that is one of the service accounts, or looks like one. */
const caller = accounts.chain((configured) =>
  fc.constantFrom(...configured).chain((account) => {
    const pod = { namespace: nearly(account.namespace), name: nearly(account.name), audience };
    return fc.record({ configured: fc.constant(configured), account: fc.constant(account), ...pod });
  }),
);

test("Pulumi Cloud allows only the configured service account with its audience, and only for its own token", () => {
  const property = fc.property(caller, fc.option(other), ({ configured, account, ...pod }, other) => {
    const requested = other ?? { tokenType: account.tokenType, scope: scopeOf(account) };
    const policies = JSON.parse(JSON.stringify(configured.map(allowPolicy)));
    const claims = {
      sub: `system:serviceaccount:${pod.namespace}:${pod.name}`,
      aud: [pod.audience],
      "kubernetes.io": { namespace: pod.namespace, serviceaccount: { name: pod.name } },
    };
    const granted = configured.some(
      (it) =>
        it.namespace === pod.namespace &&
        it.name === pod.name &&
        (pod.audience === AUDIENCE || !it.audienceRule) &&
        it.tokenType === requested.tokenType &&
        // An administrator may request less.
        (scopeOf(it) === requested.scope || (scopeOf(it) === "admin" && requested.scope === "")),
    );
    assert.equal(decide(policies, claims, requested, RUNNERS).allowed, granted);
  });
  fc.assert(property, { numRuns: 2000 });
});

/** Returns the scope that the service account's own exchange requests. */
function scopeOf({ tokenType, userLogin, teamName, runnerName, organizationAdmin }: Account): string {
  if (tokenType === "organization") return organizationAdmin ? "admin" : "";
  const prefix = tokenType === "personal" ? "user" : tokenType;
  return `${prefix}:${userLogin ?? teamName ?? runnerName}`;
}
