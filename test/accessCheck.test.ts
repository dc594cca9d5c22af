// Who gets in: each row of the table flips once the one condition, rule or fact that decides it is gone.

import assert from "node:assert/strict";
import { after, before, mock, type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Caller, checkAccess } from "../simulator/accessCheck";
import type { AuthPolicy } from "../simulator/authPolicy";
import type { PodIdentity, TokenOptions } from "../simulator/issuer";
import { runProgram } from "../simulator/mocks";
import type { IssuerRegistration } from "../simulator/pulumiCloud";
import { type Simulation, startSimulation } from "../simulator/simulation";

const ROLE = "aws:iam/role:Role";
const OIDC_PROVIDER = "aws:iam/openIdConnectProvider:OpenIdConnectProvider";
const OTHER_AUDIENCE = "sts.amazonaws.com-2";

// One stack for all tests, with every rule that there is; each test changes it and puts it back.
let simulation: Simulation;
before(async () => {
  simulation = await startSimulation({
    folder: process.env.SIMULATOR_DIRECTORY,
    region: "us-west-2",
    cluster: { name: "my-cluster", hasOidcProvider: true },
    registrationMilliseconds: 0,
  });
  // Each forged token takes a new key, which takes a while: a caller shows the same token again.
  const { token } = simulation.issuer;
  const tokens = new Map<string, Promise<string>>();
  mock.method(simulation.issuer, "token", (...request: Parameters<typeof token>) => {
    const key = JSON.stringify(request);
    const known = tokens.get(key) ?? token(...request);
    tokens.set(key, known);
    return known;
  });
  await runProgram(simulation, {
    project: "project",
    stack: "dev",
    organization: "acme",
    config: {
      "project:clusterName": "my-cluster",
      "project:userLogin": "my-login",
      "project:audienceRule": "true",
      "project:policyRules": '{"\\"kubernetes.io\\".pod.name":"runner-*"}',
    },
  });
});
after(() => simulation.close());

test("the pod itself gets in, and nobody else does", async () => {
  assert.deepEqual(await getIn(), { pulumiCloud: ["the pod itself"], role: ["the pod itself"] });
});

test("every refusal has its own reason", async () => {
  const callers = await checkAccess(simulation);
  const refused = callers.filter(({ name }) => name !== "the pod itself");
  const expected: Record<string, [RegExp, RegExp]> = {
    "another service account": [/serviceaccount\.name is 'pulumi-service-account-2'/, /wants another sub$/],
    "another namespace": [/namespace is 'default-2'/, /wants another sub$/],
    "another audience": [/aud is \['sts\.amazonaws\.com-2'/, /IAM OIDC provider wants another aud$/],
    "an expired token": [/has expired/, /has expired/],
    "a forged signature": [/does not verify/, /does not verify/],
    "another cluster": [/has no OIDC issuer/, /no IAM OIDC provider for this issuer/],
  };
  assert.deepEqual(
    refused.map(({ name }) => name),
    Object.keys(expected),
  );
  for (const { name, pulumiCloud, role } of refused) {
    const [ofPulumiCloud, ofRole] = expected[name] ?? assert.fail(name);
    assert.match(pulumiCloud.reason, ofPulumiCloud);
    assert.match(role.reason, ofRole);
  }
});

for (const [rule, caller] of [
  ['"kubernetes.io".namespace', "another namespace"],
  ['"kubernetes.io".serviceaccount.name', "another service account"],
  ["aud", "another audience"],
] satisfies [string, string][]) {
  test(`without the rule ${rule} of the allow policy, Pulumi Cloud lets ${caller} in`, async (t) => {
    await changePolicy(t, ({ rules: { [rule]: removed, ...rules }, ...policy }) => {
      assert.ok(removed);
      return { ...policy, rules };
    });
    assert.deepEqual((await getIn()).pulumiCloud, ["the pod itself", caller]);
  });
}

test("without a rule of policyRules, Pulumi Cloud lets a pod in that the rule kept out", async (t) => {
  changeTokens(t, (pod) => ({ ...pod, pod: "intruder-1" }), {});
  assert.deepEqual((await getIn()).pulumiCloud, []);

  await changePolicy(t, ({ rules: { '"kubernetes.io".pod.name': removed, ...rules }, ...policy }) => {
    assert.ok(removed);
    return { ...policy, rules };
  });
  assert.deepEqual((await getIn()).pulumiCloud, ["the pod itself"]);
});

test("an allow policy for another user keeps even the pod itself out", async (t) => {
  await changePolicy(t, (policy) => ({ ...policy, userLogin: "somebody-else" }));
  assert.deepEqual((await getIn()).pulumiCloud, []);
});

test("without the condition on sub, the role lets another service account and another namespace in", async (t) => {
  await changeTrustPolicy(t, (policy) => policy.replace(/"[^"]+:sub":"[^"]+",?/, "").replace(",}", "}"));
  assert.deepEqual((await getIn()).role, ["the pod itself", "another service account", "another namespace"]);
});

test("without the condition on aud, the role lets another audience in, once another role of the account wants it", async (t) => {
  // The IAM OIDC provider is the whole account's, and so is its list of audiences.
  const providers =
    simulation.resources[OIDC_PROVIDER] ?? assert.fail("the simulation keeps no IAM OIDC providers");
  const id = providerArn(simulation.issuer.url);
  const inputs = { ...providers.read(id) };
  await providers.update(id, { ...inputs, clientIdLists: ["sts.amazonaws.com", OTHER_AUDIENCE] });
  t.after(() => providers.update(id, inputs));
  assert.deepEqual((await getIn()).role, ["the pod itself"]);

  await changeTrustPolicy(t, (policy) => policy.replace(/,?"[^"]+:aud":"[^"]+"/, "").replace("{,", "{"));
  assert.deepEqual((await getIn()).role, ["the pod itself", "another audience"]);
});

test("another cluster's pods need more than an IAM OIDC provider: the trust policy names this cluster's", async (t) => {
  await addOtherProvider(t);
  assert.deepEqual((await getIn()).role, ["the pod itself"]);

  const name = (url: string) => url.replace("https://", "");
  await changeTrustPolicy(t, (policy) =>
    policy.replaceAll(name(simulation.issuer.url), name(simulation.otherIssuer.url)),
  );
  assert.deepEqual((await getIn()).role, ["another cluster"]);
});

test("with another principal alone the trust policy lets nobody in: its conditions are about this cluster's issuer", async (t) => {
  await addOtherProvider(t);
  await changeTrustPolicy(t, (policy) =>
    policy.replace(providerArn(simulation.issuer.url), providerArn(simulation.otherIssuer.url)),
  );
  assert.deepEqual((await getIn()).role, []);
});

test("once the other cluster's issuer is registered under the same policy, its pods get into Pulumi Cloud", async (t) => {
  const { registration } = registered();
  const { id } = await simulation.pulumiCloud.register({
    ...registration,
    url: simulation.otherIssuer.url,
    thumbprints: [simulation.otherIssuer.thumbprint()],
  });
  t.after(() => simulation.pulumiCloud.remove(id));
  assert.deepEqual((await getIn()).pulumiCloud, ["the pod itself", "another cluster"]);
});

test("an expired token is refused for its age alone: a fresh one gets in", async (t) => {
  changeTokens(t, (pod) => pod, { expiresIn: 60 });
  const names = ["the pod itself", "an expired token"];
  assert.deepEqual(await getIn(), { pulumiCloud: names, role: names });
});

test("a forged token is refused for its signature alone: the cluster's own gets in", async (t) => {
  changeTokens(t, (pod) => pod, { forged: false });
  const names = ["the pod itself", "a forged signature"];
  assert.deepEqual(await getIn(), { pulumiCloud: names, role: names });
});

test("after a rotation of the issuer's certificate nobody gets into Pulumi Cloud until its thumbprint is registered", async (t) => {
  const { id, registration } = registered();
  t.after(() => register(id, { ...registration, thumbprints: [simulation.issuer.thumbprint()] }));
  await simulation.issuer.rotateCertificate();
  // STS has to see that the connection that it kept alive was closed.
  await sleep(50);
  assert.deepEqual(await getIn(), { pulumiCloud: [], role: ["the pod itself"] });
  const [itself] = await checkAccess(simulation);
  assert.match(String(itself?.pulumiCloud.reason), /thumbprint [0-9a-f]{64}, which is not registered/);

  await register(id, { ...registration, thumbprints: [simulation.issuer.thumbprint()] });
  assert.deepEqual((await getIn()).pulumiCloud, ["the pod itself"]);
});

test("the table says which setting would keep another audience out", async (t) => {
  await changePolicy(t, ({ rules: { aud: _, ...rules }, ...policy }) => ({ ...policy, rules }));
  const callers = await checkAccess(simulation);
  assert.deepEqual(
    callers.filter(({ refusedBy }) => refusedBy).map(({ name, refusedBy }) => [name, refusedBy]),
    [["another audience", "audienceRule"]],
  );
});

/** The callers that get in. */
async function getIn(): Promise<{ pulumiCloud: string[]; role: string[] }> {
  const callers = await checkAccess(simulation);
  const names = (of: (caller: Caller) => { allowed: boolean }) =>
    callers.filter((caller) => of(caller).allowed).map(({ name }) => name);
  return { pulumiCloud: names(({ pulumiCloud }) => pulumiCloud), role: names(({ role }) => role) };
}

function registered() {
  return simulation.pulumiCloud.list()[0] ?? assert.fail("no issuer is registered");
}

async function register(id: string, registration: IssuerRegistration): Promise<void> {
  await simulation.pulumiCloud.update(id, registration);
}

async function changePolicy(t: TestContext, change: (policy: AuthPolicy) => AuthPolicy): Promise<void> {
  const { id, registration } = registered();
  const policies = registration.policies ?? [];
  await register(id, { ...registration, policies: policies.map(change) });
  t.after(() => register(id, registration));
}

/** Changes the JSON of the role's trust policy. */
async function changeTrustPolicy(t: TestContext, change: (policy: string) => string): Promise<void> {
  const roles = simulation.resources[ROLE] ?? assert.fail("the simulation keeps no roles");
  const id =
    simulation.existing().aws.find((name) => name.startsWith("pulumi-oidc-") && !name.includes("/")) ?? "";
  const inputs = { ...roles.read(id) };
  assert.ok("assumeRolePolicy" in inputs);
  const before = JSON.stringify(inputs.assumeRolePolicy);
  const assumeRolePolicy = change(before);
  assert.notEqual(assumeRolePolicy, before);
  await roles.update(id, { ...inputs, assumeRolePolicy });
  t.after(() => roles.update(id, inputs));
}

/** Every caller gets a token of this pod and with these properties. */
function changeTokens(t: TestContext, ofPod: (pod: PodIdentity) => PodIdentity, options: TokenOptions) {
  const { token } = simulation.issuer;
  t.mock.method(simulation.issuer, "token", (pod: PodIdentity, given: TokenOptions = {}) =>
    token(ofPod(pod), { ...given, ...options }),
  );
}

async function addOtherProvider(t: TestContext): Promise<void> {
  const providers =
    simulation.resources[OIDC_PROVIDER] ?? assert.fail("the simulation keeps no IAM OIDC providers");
  const { id } = await providers.create("other", {
    url: simulation.otherIssuer.url,
    clientIdLists: ["sts.amazonaws.com"],
  });
  t.after(() => providers.delete(id));
}

function providerArn(issuerUrl: string): string {
  return `arn:aws:iam::123456789012:oidc-provider/${issuerUrl.replace("https://", "")}`;
}
