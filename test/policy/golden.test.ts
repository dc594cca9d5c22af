// The rules build each golden document a second time, and require it of what the program registers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { runRules } from "../../policy/runRules";
import { ENTRIES } from "../core/serviceAccounts";
import { up } from "../environment/stack";
import { asRegistered } from "./draft";

const limits = { organizationAdmins: ["ops/admin"], maxExpirationSeconds: 7200 };

for (const [what, settings] of Object.entries({
  "of every token type": { audienceRule: false, serviceAccounts: Object.values(ENTRIES) },
  "of an audience, and of EKS Pod Identity": {
    serviceAccounts: [{ ...ENTRIES.team, awsRole: "pod-identity" }],
  },
})) {
  test(`the policy pack requires the documents ${what}`, async (t) => {
    const { registered } = await up(t, { maxExpirationSeconds: 7200, ...settings });
    assert.deepEqual(runRules(asRegistered(registered), { limits }), []);
  });
}
