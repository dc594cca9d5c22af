// The check of examples/token-check.yaml that must be denied, with an emulated Pulumi Cloud.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { KubernetesObject } from "../support/apiServer";
import { type ExamplesStack, exampleOf, startExamplesStack } from "../support/examples";
import { runPodSpec } from "../support/podSpec";
import { changePolicies } from "../support/stack";

const NAME = "token-check-denied";

const { manifests } = exampleOf("token-check.yaml");
const objectOf = (kind: string): KubernetesObject =>
  manifests.find((it) => it.kind === kind && it.metadata?.name === NAME) ?? assert.fail();

let stack: ExamplesStack;
before(async () => {
  const granted = async () => ({ exitCode: 0, log: [] });
  stack = await startExamplesStack({
    runPod: (pod) => (pod.spec.serviceAccountName === NAME ? runPodSpec(pod) : granted()),
  });
  await stack.simulation.resources["kubernetes:core/v1:ServiceAccount"]?.create(
    NAME,
    objectOf("ServiceAccount"),
  );
});
after(() => stack.simulation.close());

/** Runs the check once. @throws Error with its log if it fails. */
async function check(change: (spec: KubernetesObject) => object = (spec) => spec): Promise<void> {
  const { spec } = objectOf("CronJob").spec.jobTemplate;
  const metadata = { namespace: "token-check", name: `check-${Math.random()}` };
  const template = { ...spec.template, spec: change(spec.template.spec) };
  const job = { metadata, spec: { ...spec, template } };
  await stack.simulation.resources["kubernetes:batch/v1:Job"]?.create("check", job);
}

test("succeeds while its service account is denied a token", async () => {
  await check();
  const { reason } = stack.simulation.pulumiCloud.exchanges.at(-1) ?? assert.fail();
  assert.match(reason, /^no allow policy of the issuer matches/);
});

test("fails once an allow policy has become wide enough for its service account", async (t) => {
  await changePolicies(t, stack.simulation, (policies) =>
    policies.map((policy) =>
      policy.teamName === "token-check"
        ? { ...policy, rules: { sub: "system:serviceaccount:token-check:*" } }
        : policy,
    ),
  );
  await assert.rejects(check(), /which ends with 77, but it ended with 0\./);
});

test("fails if the exchange ends in any other way", async () => {
  const withoutToken = (spec: KubernetesObject) => {
    const text = JSON.stringify(spec).replace('"path":"token"', '"path":"elsewhere"');
    return JSON.parse(text);
  };
  await assert.rejects(check(withoutToken), /which ends with 77, but it ended with 66\./);
});
