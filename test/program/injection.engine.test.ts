// When Pulumi's engine changes the policy of `injectToken`: after the Jobs of its service accounts, and before their ConfigMaps go.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { changes, failed, resourcesOf, succeeded } from "../support/engineOutcome";
import { emptyStack } from "../support/engineStack";
import { missingCli } from "../support/pulumiCli";

const POLICY = "access.inject-token";

const DEPLOYER = { namespace: "default", name: "deployer", tokenType: "personal", userLogin: "alice" };
const READER = { namespace: "default", name: "reader", tokenType: "organization" };
const INJECT = { injectToken: true };

/** No pod of the Job has such a name. */
const DENIED = { policyRules: { '"kubernetes.io".pod.name': "other-*" } };

// The parts of the test depend on those before them.
describe("the policy of injectToken on Pulumi's engine", { skip: missingCli }, () => {
  test("follows the Jobs of its service accounts", async (t) => {
    const { pulumi, set, up } = await emptyStack(t, {
      userLogin: "",
      serviceAccounts: [{ ...DEPLOYER, ...INJECT }, READER],
    });

    /** Runs an update with these entries. */
    async function update(...serviceAccounts: object[]) {
      await set("serviceAccounts", serviceAccounts);
      return up();
    }

    /** Returns the service accounts whose pods are changed. */
    async function injected(): Promise<string[]> {
      const policy = (await resourcesOf(pulumi)).find(({ type }) =>
        type.endsWith(":MutatingAdmissionPolicy"),
      );
      return JSON.stringify(policy?.inputs ?? {}).match(/default\/\w+(?=\\": )/g) ?? [];
    }

    await t.test("is created once the exchange has succeeded", async () => {
      const { screen } = succeeded(await up());
      const created = order(screen, "created").filter((label) => !label.includes("reader"));
      assert.deepEqual(created, [
        "ConfigMap access.default.deployer.pulumi-token-exchange",
        "Job access.default.deployer",
        `MutatingAdmissionPolicy ${POLICY}`,
        `MutatingAdmissionPolicyBinding ${POLICY}`,
      ]);
      assert.deepEqual(await injected(), ["default/deployer"]);
      succeeded(await pulumi("preview", "--expect-no-changes"));
    });

    await t.test("is not touched when a Job is replaced", async () => {
      const rules = { policyRules: { '"kubernetes.io".pod.name': "deployer-*" } };
      assert.deepEqual(changes(await update({ ...DEPLOYER, ...INJECT, ...rules }, READER)), [
        "access.default.deployer replaced",
        "access.oidc-issuer updated",
      ]);
    });

    await t.test("stays as it was while a Job of its service accounts is denied", async () => {
      const denied = { ...DEPLOYER, ...INJECT, ...DENIED };
      const isDenied = /Job \(access\.default\.deployer\):.*no allow policy of the issuer matches/s;
      failed(await update(denied, { ...READER, ...INJECT }), isDenied);
      assert.deepEqual(await injected(), ["default/deployer"]);

      succeeded(await update({ ...DEPLOYER, ...INJECT }, { ...READER, ...INJECT }));
      assert.deepEqual(await injected(), ["default/deployer", "default/reader"]);

      failed(await update(denied, READER), isDenied);
      assert.deepEqual(await injected(), ["default/deployer", "default/reader"]);

      failed(await update(denied), isDenied);
      assert.deepEqual(await injected(), ["default/deployer", "default/reader"]);
    });

    await t.test(
      "lets go of a denied service account that has neither injectToken nor a Job any more",
      async () => {
        const off = { ...DEPLOYER, ...DENIED, injectToken: false, runJob: false };
        succeeded(await update(off, { ...READER, ...INJECT }));
        assert.deepEqual(await injected(), ["default/reader"]);
      },
    );

    await t.test("goes with the last of them", async () => {
      succeeded(await update(DEPLOYER, READER));
      assert.deepEqual(await injected(), []);
    });

    await t.test("is destroyed before the ConfigMaps that it adds to pods", async () => {
      succeeded(await update({ ...DEPLOYER, ...INJECT }, { ...READER, ...INJECT, runJob: false }));
      const { screen } = succeeded(await pulumi("destroy", "--yes", "--skip-preview"));
      const [binding, policy, ...others] = order(screen, "deleted");
      assert.deepEqual(
        [binding, policy],
        [`MutatingAdmissionPolicyBinding ${POLICY}`, `MutatingAdmissionPolicy ${POLICY}`],
      );
      assert.equal(others.filter((it) => it.startsWith("ConfigMap ")).length, 2);
    });
  });
});

/** Returns the objects that an update created or deleted, in this order, which workloads depend on. */
function order(screen: string, change: string): string[] {
  const lines = screen.matchAll(/:(ConfigMap|Job|MutatingAdmission\w+) +(access\.\S+) (\w+) /g);
  return [...lines].filter(([, , , done]) => done === change).map(([, type, name]) => `${type} ${name}`);
}
