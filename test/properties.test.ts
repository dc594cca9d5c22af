// Over arbitrary names, namespaces and callers: nobody but the configured caller is let in, by Pulumi Cloud or by the role.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseSettings, type Settings } from "../config";
import { trustPolicy } from "../iam";
import { allowPolicy } from "../oidcIssuer";
import { decide, matchesPattern } from "../simulator/authPolicy";
import { evaluateTrustPolicy } from "../simulator/aws";

const ISSUER = "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";
const STS = "sts.amazonaws.com";
const WILDCARDS = /[*?.]/;

/** A name that the settings accept, and often one of the shortest. */
const name = fc
  .array(fc.constantFrom("a", "b", "z", "0", "9", "-"), { minLength: 1, maxLength: 20 })
  .map((characters) => characters.join(""))
  .filter((candidate) => !candidate.startsWith("-") && !candidate.endsWith("-"));

/** Settings, with the names of pods that are theirs or nearly so. */
function podsNear(configured: Settings) {
  return {
    configured: fc.constant(configured),
    namespace: nearly(configured.namespace),
    serviceAccount: nearly(configured.serviceAccountName),
  };
}

/** This text half of the time, or one that looks like it, or any. */
function nearly(text: string): fc.Arbitrary<string> {
  const position = fc.nat(Math.max(text.length - 1, 0));
  const odd = fc.constantFrom(".", "*", "?", "-", "a", "A", "\u0430", "\uff41", "\u0000", " ", "\n", ":", "");
  const replaced = fc
    .tuple(position, odd)
    .map(([index, character]) => text.slice(0, index) + character + text.slice(index + 1));
  const inserted = fc
    .tuple(position, odd)
    .map(([index, character]) => text.slice(0, index) + character + text.slice(index));
  const extended = odd.map((character) => text + character);
  const others = fc.constantFrom(
    text,
    text.toUpperCase(),
    text.slice(0, -1),
    text.slice(1),
    "",
    "*",
    "?",
    ".",
    `${text}.${text}`,
  );
  return fc.oneof(
    { weight: 5, arbitrary: fc.constant(text) },
    replaced,
    inserted,
    extended,
    others,
    name,
    fc.string({ unit: "grapheme" }),
  );
}

/** A text that the rule language could read as more than itself. */
const tricky = fc
  .array(fc.constantFrom("a", "b", "-", ".", "*", "?", "A", "\u0430", " ", ":", "\n"), {
    minLength: 1,
    maxLength: 6,
  })
  .map((characters) => characters.join(""));

const token = fc.oneof(
  fc.record({ tokenType: fc.constant("personal"), userLogin: fc.constantFrom("alice", "a.b", "a_b") }),
  fc.record({ tokenType: fc.constant("team"), teamName: fc.constantFrom("ops", "ops-eu") }),
  fc.record({
    tokenType: fc.constant("runner"),
    runnerId: fc.constant("id-1"),
    runnerName: fc.constant("pool"),
  }),
  fc.record({ tokenType: fc.constant("organization"), organizationAdmin: fc.constantFrom("true", "false") }),
);
const RUNNERS = [
  { id: "id-1", name: "pool" },
  { id: "id-2", name: "pool-2" },
];

/** Settings that are accepted, as the program has them, with and without the rule for the audience. */
const settings = fc
  .record({
    namespace: name,
    serviceAccountName: name,
    audienceRule: fc.constantFrom("true", "false"),
    token,
  })
  .map(({ token, ...given }) => accepted({ ...given, ...token }));

test("Pulumi Cloud lets in whoever has the configured namespace, service account and audience, and nobody else", () => {
  const property = fc.property(
    settings.chain((configured) =>
      fc.record({
        ...podsNear(configured),
        audience: fc.constantFrom(
          STS,
          "https://kubernetes.default.svc",
          "sts.amazonaws.com.example",
          "STS.amazonaws.com",
        ),
      }),
    ),
    ({ configured, namespace, serviceAccount, audience }) => {
      const { allowed } = ask(configured, claims({ namespace, serviceAccount, audience: [audience] }));
      const itself =
        namespace === configured.namespace &&
        serviceAccount === configured.serviceAccountName &&
        (audience === STS || !configured.audienceRule);
      assert.equal(allowed, itself);
    },
  );
  fc.assert(property, { numRuns: 1000 });
});

test("Pulumi Cloud lets the configured caller in with every kind of token, and with one of several audiences", () => {
  const property = fc.property(settings, (configured) => {
    const caller = { namespace: configured.namespace, serviceAccount: configured.serviceAccountName };
    assert.equal(ask(configured, claims({ ...caller, audience: ["other", STS] })).allowed, true);
  });
  fc.assert(property);
});

test("the configured caller gets no other token than the configured one", () => {
  const scopes = [
    "user:alice",
    "user:alice2",
    "user:a-b",
    "team:ops",
    "team:ops2",
    "team:ops-eu",
    "runner:pool",
    "runner:pool-2",
    "",
    "admin",
  ];
  const asked = fc.record({
    tokenType: fc.constantFrom("personal", "team", "runner", "organization"),
    scope: fc.constantFrom(...scopes),
  });
  const property = fc.property(settings, asked, (configured, { tokenType, scope }) => {
    const caller = { namespace: configured.namespace, serviceAccount: configured.serviceAccountName };
    const { allowed } = ask(configured, claims({ ...caller, audience: [STS] }), { tokenType, scope });
    // An administrator may ask for less.
    const less = tokenType === "organization" && scope === "";
    assert.equal(
      allowed,
      tokenType === configured.token.tokenType && (scope === configured.tokenScope || less),
    );
  });
  fc.assert(property, { numRuns: 500 });
});

test("claims of another shape than Kubernetes gives let nobody in", () => {
  const shapes = fc.constantFrom<(text: string) => unknown>(
    (text) => [text, "b"].slice(1),
    (text) => ({ name: text }),
    () => null,
    () => 7,
    () => undefined,
    () => [],
  );
  const property = fc.property(settings, shapes, (configured, shape) => {
    const { namespace, serviceAccountName } = configured;
    const odd = { namespace: shape(namespace), serviceaccount: shape(serviceAccountName) };
    assert.equal(ask(configured, { aud: [STS], "kubernetes.io": odd }).allowed, false);
    // Without the quotes the path would lead here.
    const flat = { "kubernetes.io.namespace": namespace, kubernetes: { io: { namespace } }, aud: [STS] };
    assert.equal(ask(configured, flat).allowed, false);
  });
  fc.assert(property);
});

test("further rules never let in whom the policy kept out without them", () => {
  const rules = fc.dictionary(
    fc.constantFrom("sub", '"kubernetes.io".pod.name', '"kubernetes.io"."namespace"', '"aud"'),
    tricky,
  );
  const property = fc.property(
    settings.chain((configured) =>
      fc.record({
        ...podsNear(configured),
        policyRules: rules,
      }),
    ),
    ({ configured, namespace, serviceAccount, policyRules }) => {
      const { settings: further } = parse({ policyRules: JSON.stringify(policyRules) });
      if (!further) return;
      const caller = claims({ namespace, serviceAccount, audience: [STS] });
      const stricter = { ...configured, policyRules: further.policyRules };
      assert.ok(!ask(stricter, caller).allowed || ask(configured, caller).allowed);
    },
  );
  fc.assert(property, { numRuns: 500 });
});

test("the role lets in whoever has the configured issuer, subject and audience, and nobody else", () => {
  const property = fc.property(
    settings.chain((configured) =>
      fc.record({
        ...podsNear(configured),
        issuer: fc.oneof(fc.constant(ISSUER), nearly(ISSUER)),
        audience: fc.constantFrom(
          STS,
          "urn:pulumi:org:acme",
          "sts.amazonaws.com.cn",
          "sts-amazonaws-com",
          "*",
        ),
      }),
    ),
    ({ configured, issuer, audience, ...pod }) => {
      const { allowed } = assume(configured, { ...claims({ ...pod, audience: [audience] }), iss: issuer });
      const itself =
        issuer === ISSUER &&
        pod.namespace === configured.namespace &&
        pod.serviceAccount === configured.serviceAccountName &&
        audience === STS;
      assert.equal(allowed, itself);
    },
  );
  fc.assert(property, { numRuns: 1000 });
});

test("the role lets no subject in that only reads like the configured one", () => {
  const property = fc.property(
    settings.chain((configured) =>
      fc.record({ configured: fc.constant(configured), sub: nearly(subject(configured)) }),
    ),
    ({ configured, sub }) => {
      const { allowed } = assume(configured, { iss: ISSUER, sub, aud: [STS] });
      assert.equal(allowed, sub === subject(configured));
    },
  );
  fc.assert(property, { numRuns: 500 });
});

for (const [key, given] of [
  ["namespace", {}],
  ["serviceAccountName", {}],
  ["teamName", { tokenType: "team", userLogin: "" }],
] satisfies [string, Record<string, string>][]) {
  test(`a ${key} that the settings accept matches itself alone as a pattern`, () => {
    const property = fc.property(tricky, fc.oneof(tricky, name), (value, other) => {
      const { settings } = parse({ ...given, [key]: value });
      if (!settings) return;
      assert.doesNotMatch(value, WILDCARDS);
      assert.equal(matchesPattern(value, other), value === other);
    });
    fc.assert(property, { numRuns: 2000 });
  });
}

test("no value that the settings refuse reaches a policy", () => {
  const keys = [
    "namespace",
    "serviceAccountName",
    "teamName",
    "userLogin",
    "tokenAudience",
    "policyRules",
    "runnerId",
  ];
  const property = fc.property(fc.dictionary(fc.constantFrom(...keys), tricky), (given) => {
    const { settings, problems } = parse(given);
    // Either there is a whole of accepted values, or there is nothing that a policy could be made of.
    assert.notEqual(settings === undefined, problems === undefined);
    if (!settings) return;
    const patterns = Object.values(allowPolicyOf(settings).rules);
    for (const pattern of patterns) assert.doesNotMatch(pattern, /[*?\n]/);
  });
  fc.assert(property, { numRuns: 2000 });
});

test("a known limit: the dots of an audience match any one character, since the rule language cannot quote them", () => {
  const configured = accepted({ audienceRule: "true" });
  const caller = { namespace: configured.namespace, serviceAccount: configured.serviceAccountName };
  const { allowed } = ask(configured, claims({ ...caller, audience: ["sts-amazonaws-com"] }));
  assert.equal(allowed, true);
  // The role, which compares texts, is not fooled.
  const claimed = claims({ ...caller, audience: ["sts-amazonaws-com"] });
  assert.equal(assume(configured, { ...claimed, iss: ISSUER }).allowed, false);
});

interface Caller {
  namespace: string;
  serviceAccount: string;
  audience: string[];
}

function claims({ namespace, serviceAccount, audience }: Caller) {
  return {
    iss: ISSUER,
    sub: `system:serviceaccount:${namespace}:${serviceAccount}`,
    aud: audience,
    "kubernetes.io": { namespace, serviceaccount: { name: serviceAccount } },
  };
}

function subject({ namespace, serviceAccountName }: Settings): string {
  return `system:serviceaccount:${namespace}:${serviceAccountName}`;
}

/** What Pulumi Cloud answers a caller that asks for the configured token, or for another one. */
function ask(
  settings: Settings,
  claims: Record<string, unknown>,
  asked: { tokenType: string; scope: string } = {
    tokenType: settings.token.tokenType,
    scope: settings.tokenScope,
  },
) {
  return decide([allowPolicyOf(settings)], claims, asked, RUNNERS);
}

function allowPolicyOf(settings: Settings) {
  const { token, namespace, serviceAccountName, audienceRule, tokenAudience, policyRules: rules } = settings;
  const audience = audienceRule ? tokenAudience : undefined;
  return allowPolicy({ token, namespace, serviceAccountName, audience, rules });
}

/** What the role answers; the token's issuer has an IAM OIDC provider, whichever it is. */
function assume(
  { namespace, serviceAccountName }: Settings,
  claims: Record<string, unknown> & { iss: string },
) {
  const arn = (issuer: string) => `arn:aws:iam::123456789012:oidc-provider/${issuer.replace("https://", "")}`;
  const policy = trustPolicy({
    issuerUrl: ISSUER,
    oidcProviderArn: arn(ISSUER),
    namespace,
    serviceAccountName,
  });
  return evaluateTrustPolicy(JSON.parse(JSON.stringify(policy)), arn(claims.iss), claims);
}

function parse(given: Record<string, string>) {
  const config: Record<string, string> = {};
  const required = { clusterName: "my-cluster", userLogin: "alice" };
  for (const [key, value] of Object.entries({ ...required, ...given })) config[`project:${key}`] = value;
  return parseSettings(config, "project", "acme");
}

function accepted(given: Record<string, string>): Settings {
  const userLogin = (given.tokenType ?? "personal") === "personal" ? (given.userLogin ?? "alice") : "";
  const { settings, problems } = parse({ ...given, userLogin });
  return settings ?? assert.fail(JSON.stringify(problems));
}
