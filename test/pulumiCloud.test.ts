// The simulation's Pulumi Cloud: the registrations of issuers, and who gets an access token.

import assert from "node:assert/strict";
import { after, before, type TestContext, test } from "node:test";
import { SignJWT, UnsecuredJWT } from "jose";
import type { AuthPolicy } from "../simulator/authPolicy";
import {
  type CertificateAuthority,
  createCertificateAuthority,
  openCertificateAuthority,
} from "../simulator/certificates";
import { type ClusterIssuer, startIssuer } from "../simulator/issuer";
import { type IssuerRegistration, type PulumiCloud, startPulumiCloud } from "../simulator/pulumiCloud";

const RULES = { '"kubernetes.io".namespace': "default", '"kubernetes.io".serviceaccount.name': "runner" };
const ALICE: AuthPolicy = { decision: "allow", tokenType: "personal", userLogin: "alice", rules: RULES };
const POD = { namespace: "default", serviceAccount: "runner" };
const claims = { "kubernetes.io": { namespace: "default", serviceaccount: { name: "runner" } } };
const TOKEN_TYPE = "urn:pulumi:token-type:access_token:";

let authority: CertificateAuthority;
// The issuers of two clusters, for tests that leave them as they are: a signing key takes a tenth of a second.
let issuer: ClusterIssuer;
let otherIssuer: ClusterIssuer;
before(async () => {
  authority = await openCertificateAuthority(process.env.SIMULATOR_DIRECTORY);
  [issuer, otherIssuer] = await Promise.all([startIssuer(authority), startIssuer(authority)]);
});
after(() => Promise.all([issuer.close(), otherIssuer.close()]));

test("a registration takes the time that it is told to, and lets nobody in before", async (t) => {
  const cloud = await start(t, { registrationMilliseconds: 300 });
  const started = performance.now();
  const registered = cloud.register(registrationOf(issuer));
  assert.match(
    (await exchange(cloud, await issuer.token(POD))).error_description ?? "",
    /has no OIDC issuer/,
  );
  await registered;
  assert.ok(performance.now() - started >= 299);
  assert.equal((await exchange(cloud, await issuer.token(POD))).status, 200);
});

test("a registration gets an id of its organization, and can be read, listed and removed", async (t) => {
  const cloud = await start(t);
  const { id, registration } = await cloud.register(registrationOf(issuer));
  assert.match(id, /^acme\/[0-9a-f]{8}-[0-9a-f-]{27}$/);
  assert.deepEqual(registration, registrationOf(issuer));
  assert.deepEqual(cloud.read(id), registration);
  assert.deepEqual(cloud.list(), [{ id, registration }]);

  cloud.remove(id);
  assert.equal(cloud.read(id), undefined);
  assert.equal((await exchange(cloud, await issuer.token(POD))).status, 400);
});

test("thumbprints and policies that are left out are filled in: the certificate's, and deny", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register({ organization: "acme", name: "eks", url: issuer.url });
  assert.deepEqual(cloud.read(id)?.thumbprints, [issuer.thumbprint()]);
  assert.deepEqual(cloud.read(id)?.policies, [
    { decision: "deny", tokenType: "organization", rules: { sub: "" } },
  ]);
  assert.equal((await exchange(cloud, await issuer.token(POD))).status, 400);
});

test("the same URL twice in one organization is refused, also at the same time; in another it is not", async (t) => {
  const cloud = await start(t);
  const both = await Promise.allSettled([
    cloud.register(registrationOf(issuer)),
    cloud.register(registrationOf(issuer)),
  ]);
  assert.deepEqual(both.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  await assert.rejects(cloud.register(registrationOf(issuer)), /^Error: 409 API error: .* exists already$/);
  await cloud.register(registrationOf(issuer, { organization: "other" }));
});

test("a thumbprint that is not the certificate's is refused in the service's words", async (t) => {
  const cloud = await start(t);
  const wrong = registrationOf(issuer, { thumbprints: ["0".repeat(64)] });
  await assert.rejects(cloud.register(wrong), {
    message: `400 API error: Bad Request: Calculated thumbprint ${issuer.thumbprint()} does not match any of the provided. Make sure it is properly generated (SHA256).`,
  });
  assert.deepEqual(cloud.list(), []);
});

test("one right thumbprint of several is enough, in upper case too", async (t) => {
  const cloud = await start(t);
  await cloud.register(
    registrationOf(issuer, { thumbprints: ["0".repeat(64), issuer.thumbprint().toUpperCase()] }),
  );
  assert.equal((await exchange(cloud, await issuer.token(POD))).status, 200);
});

for (const [problem, policy, message] of [
  ["an unknown decision", { decision: "Allow" }, /invalid decision Allow/],
  ["an unknown token type", { tokenType: "user" }, /invalid token type user/],
  ["a personal policy without a login", { userLogin: "" }, /userLogin is required/],
  ["a team policy without a team", { tokenType: "team" }, /teamName is required/],
  ["a runner policy without a runner", { tokenType: "runner" }, /runnerID is required/],
  ["a permission of a person", { authorizedPermissions: ["admin"] }, /only permission is admin/],
  [
    "an unknown permission",
    { tokenType: "organization", authorizedPermissions: ["write"] },
    /only permission is admin/,
  ],
  ["no rule at all", { rules: {} }, /rules can not be empty/],
  ["a pattern of wildcards alone", { rules: { sub: "*?." } }, /key sub .* strict matching portion/],
  ["an empty pattern", { rules: { sub: "" } }, /key sub .* strict matching portion/],
  ["a rule about no claim path", { rules: { "a..b": "c" } }, /a\.\.b is not a claim path/],
] satisfies [string, Partial<AuthPolicy>, RegExp][]) {
  test(`${problem} is refused, and nothing is registered`, async (t) => {
    const cloud = await start(t);
    const registration = registrationOf(issuer, { policies: [ALICE, { ...ALICE, ...policy }] });
    await assert.rejects(cloud.register(registration), (error: Error) => {
      assert.match(error.message, /^400 API error: Bad Request: /);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(cloud.list(), []);
  });
}

test("41 policies are refused, 40 are not", async (t) => {
  const cloud = await start(t);
  const policies = Array<AuthPolicy>(41).fill(ALICE);
  await assert.rejects(cloud.register(registrationOf(issuer, { policies })), /at most 40/);
  await cloud.register(registrationOf(issuer, { policies: policies.slice(1) }));
});

test("an issuer that cannot be read is not registered, and the reason is told", async (t) => {
  const cloud = await start(t);
  const own = await startOwnIssuer(t);
  await own.rotateCertificate({ authority: await createCertificateAuthority() });
  await assert.rejects(cloud.register(registrationOf(own)), /^Error: 400 .*unable to verify/);
  const elsewhere = { ...registrationOf(issuer), url: `${new URL(issuer.url).origin}/id/ELSEWHERE` };
  await assert.rejects(cloud.register(elsewhere), /^Error: 400 .*answers 404/);
});

test("an update replaces name, limit and policies", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register(registrationOf(issuer));
  const bob = { ...ALICE, userLogin: "bob" };
  const changed = registrationOf(issuer, { name: "new", maxExpirationSeconds: 600, policies: [bob] });
  assert.deepEqual(await cloud.update(id, changed), changed);
  assert.deepEqual(cloud.read(id), changed);
});

test("an update without policies leaves the old ones in force", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register(registrationOf(issuer));
  await cloud.update(id, registrationOf(issuer, { policies: [] }));
  await cloud.update(id, { organization: "acme", name: "eks", url: issuer.url });
  assert.deepEqual(cloud.read(id), registrationOf(issuer));
});

test("an update whose policies are refused changes the name, but not the policies", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register(registrationOf(issuer));
  const refused = registrationOf(issuer, { name: "new", policies: [{ ...ALICE, rules: { sub: "*" } }] });
  await assert.rejects(cloud.update(id, refused), /strict matching portion/);
  assert.deepEqual(cloud.read(id), registrationOf(issuer, { name: "new" }));
});

test("an update to a thumbprint that the certificate does not have is refused and changes nothing", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register(registrationOf(issuer));
  const refused = registrationOf(issuer, { name: "new", thumbprints: ["0".repeat(64)] });
  await assert.rejects(cloud.update(id, refused), /does not match any of the provided/);
  assert.deepEqual(cloud.read(id), registrationOf(issuer));
});

test("an update of an unknown issuer is a 404", async (t) => {
  const cloud = await start(t);
  await assert.rejects(cloud.update("acme/none", registrationOf(issuer)), /^Error: 404 API error/);
});

test("a registration that was handed out is a copy", async (t) => {
  const cloud = await start(t);
  const { id } = await cloud.register(registrationOf(issuer));
  cloud.read(id)?.policies?.pop();
  cloud.list()[0]?.registration.policies?.pop();
  assert.deepEqual(cloud.read(id), registrationOf(issuer));
});

test("an exchange answers with a token for as long as was asked, two hours by default", async (t) => {
  const cloud = await startRegistered(t);
  const idToken = await issuer.token(POD);
  const { access_token: first = "", ...answer } = await exchange(cloud, idToken, { expiration: "600" });
  assert.match(first, /^pul-[0-9a-f]{40}$/);
  assert.deepEqual(answer, {
    status: 200,
    issued_token_type: `${TOKEN_TYPE}personal`,
    token_type: "token",
    expires_in: 600,
    scope: "user:alice",
  });

  const second = await exchange(cloud, idToken, { expiration: undefined });
  assert.equal(second.expires_in, 7200);
  assert.notEqual(second.access_token, first);
});

for (const [problem, fields, error, description] of [
  ["another grant", { grant_type: "client_credentials" }, "unsupported_grant_type", /grant_type/],
  ["another subject token type", { subject_token_type: "jwt" }, "invalid_request", /subject_token_type/],
  ["no audience", { audience: undefined }, "invalid_target", /audience must be urn:pulumi:org:/],
  ["an audience of another kind", { audience: "acme" }, "invalid_target", /audience must be urn:pulumi:org:/],
  [
    "another organization",
    { audience: "urn:pulumi:org:other" },
    "invalid_request",
    /other has no OIDC issuer/,
  ],
  ["no token type", { requested_token_type: undefined }, "invalid_request", /requested_token_type/],
  [
    "an unknown token type",
    { requested_token_type: `${TOKEN_TYPE}root` },
    "invalid_request",
    /requested_token_type/,
  ],
  ["no scope", { scope: undefined }, "invalid_scope", /must be user:NAME/],
  ["a scope without a name", { scope: "user:" }, "invalid_scope", /must be user:NAME/],
  ["a scope of another kind", { scope: "team:alice" }, "invalid_scope", /must be user:NAME/],
  [
    "an organization token's unknown scope",
    { requested_token_type: `${TOKEN_TYPE}organization`, scope: "root" },
    "invalid_scope",
    /must be empty or admin/,
  ],
  ["another user", { scope: "user:bob" }, "invalid_request", /not about scope 'user:bob'/],
  [
    "another type of token",
    { requested_token_type: `${TOKEN_TYPE}team`, scope: "team:a" },
    "invalid_request",
    /type/,
  ],
  ["expiration 0", { expiration: "0" }, "invalid_request", /whole number of seconds/],
  ["a fraction of a second", { expiration: "1.5" }, "invalid_request", /whole number of seconds/],
  ["an expiration in words", { expiration: "2h" }, "invalid_request", /whole number of seconds/],
  [
    "an expiration above the limit",
    { expiration: "7201" },
    "invalid_request",
    /7201 is above .* 7200 seconds/,
  ],
  ["no id token", { subject_token: undefined }, "invalid_request", /no JSON Web Token/],
  ["an id token that is none", { subject_token: "a.b.c" }, "invalid_request", /no JSON Web Token/],
] satisfies [string, Record<string, string | undefined>, string, RegExp][]) {
  test(`an exchange with ${problem} is refused as ${error}`, async (t) => {
    const cloud = await startRegistered(t);
    const answer = await exchange(cloud, await issuer.token(POD), fields);
    assert.equal(answer.status, 400);
    assert.equal(answer.error, error);
    assert.match(answer.error_description ?? "", description);
    assert.equal(answer.access_token, undefined);
  });
}

for (const [caller, makeToken, description] of [
  [
    "of another service account",
    () => issuer.token({ ...POD, serviceAccount: "intruder" }),
    /serviceaccount\.name is 'intruder', not 'runner'/,
  ],
  [
    "of another namespace",
    () => issuer.token({ ...POD, namespace: "other" }),
    /namespace is 'other', not 'default'/,
  ],
  ["whose token has expired", () => issuer.token(POD, { expiresIn: -1 }), /has expired/],
  ["with a forged signature", () => issuer.token(POD, { forged: true }), /signature verification failed/],
  ["of a cluster that is not registered", () => otherIssuer.token(POD), /acme has no OIDC issuer https/],
  [
    "that claims another cluster's issuer",
    async () => withPayload(await otherIssuer.token(POD), { iss: issuer.url }),
    /no applicable key found/,
  ],
  [
    "with an unsigned token",
    async () => new UnsecuredJWT({ ...claims, iss: issuer.url }).setExpirationTime("1h").encode(),
    /does not verify/,
  ],
  [
    "with a token signed by a shared secret",
    () =>
      new SignJWT({ ...claims, iss: issuer.url })
        .setProtectedHeader({ alg: "HS256" })
        .setExpirationTime("1h")
        .sign(new TextEncoder().encode("secret")),
    /does not verify/,
  ],
  [
    "whose token was altered",
    async () => withPayload(await issuer.token({ ...POD, namespace: "other" }), claims),
    /signature verification failed/,
  ],
] satisfies [string, () => Promise<string>, RegExp][]) {
  test(`a caller ${caller} is refused`, async (t) => {
    const cloud = await startRegistered(t);
    const answer = await exchange(cloud, await makeToken());
    assert.equal(answer.status, 400);
    assert.match(answer.error_description ?? "", description);
  });
}

test("a rule for the audience tells tokens of several audiences apart", async (t) => {
  const cloud = await start(t);
  const rules = { ...RULES, aud: "urn:pulumi:org:acme" };
  await cloud.register(registrationOf(issuer, { policies: [{ ...ALICE, rules }] }));
  const statusFor = async (audience: string[]) =>
    (await exchange(cloud, await issuer.token(POD, { audience }))).status;
  assert.equal(await statusFor(["sts.amazonaws.com"]), 400);
  assert.equal(await statusFor(["urn:pulumi:org:acme"]), 200);
  assert.equal(await statusFor(["sts.amazonaws.com", "urn:pulumi:org:acme"]), 200);
});

test("after a rotation of the issuer's certificate nobody gets in, until the new thumbprint is registered", async (t) => {
  const own = await startOwnIssuer(t);
  const cloud = await startRegistered(t, own);
  const idToken = await own.token(POD);
  await own.rotateCertificate();
  const answer = await exchange(cloud, idToken);
  assert.equal(answer.status, 400);
  assert.match(answer.error_description ?? "", new RegExp(`${own.thumbprint()}, which is not registered`));

  const [entry] = cloud.list();
  assert.ok(entry);
  await cloud.update(entry.id, registrationOf(own));
  assert.equal((await exchange(cloud, idToken)).status, 200);
});

test("a certificate that does not verify is told apart from one that is not registered", async (t) => {
  const own = await startOwnIssuer(t);
  const cloud = await startRegistered(t, own);
  const idToken = await own.token(POD);
  for (const [certificate, reason] of [
    [{ notAfter: new Date(Date.now() - 1000) }, /cannot be read: certificate has expired/],
    [{ hosts: ["issuer.example"] }, /cannot be read: Hostname\/IP does not match/],
    [{ authority: await createCertificateAuthority() }, /cannot be read: unable to verify/],
  ] satisfies [Parameters<ClusterIssuer["rotateCertificate"]>[0], RegExp][]) {
    await own.rotateCertificate(certificate);
    assert.match((await exchange(cloud, idToken)).error_description ?? "", reason);
  }
});

test("an issuer that is down lets nobody in", async (t) => {
  const own = await startIssuer(authority);
  const cloud = await startRegistered(t, own);
  const idToken = await own.token(POD);
  await own.close();
  assert.match(
    (await exchange(cloud, idToken)).error_description ?? "",
    /cannot be read: connect ECONNREFUSED/,
  );
});

test("a field that is given twice is refused", async (t) => {
  const cloud = await start(t);
  const body = new URLSearchParams([
    ["grant_type", "a"],
    ["grant_type", "b"],
  ]);
  const response = await fetch(`${cloud.url}/api/oauth/token`, { method: "POST", body });
  assert.match(await response.text(), /grant_type is given twice/);
});

test("a body that is no form is refused", async (t) => {
  const cloud = await start(t);
  const response = await fetch(`${cloud.url}/api/oauth/token`, { method: "POST", body: "{}" });
  assert.equal(response.status, 400);
  assert.match(await response.text(), /content type/);
});

test("every exchange is logged with its reason; neither log nor refusal holds a token", async (t) => {
  const cloud = await startRegistered(t);
  const good = await issuer.token(POD);
  const bad = await issuer.token({ ...POD, namespace: "other" });
  const { access_token = "" } = await exchange(cloud, good);
  const refusal = await exchange(cloud, bad);
  const garbage = await exchange(cloud, "secret-that-is-no-token");

  assert.deepEqual(
    cloud.exchanges.map(({ status }) => status),
    [200, 400, 400],
  );
  assert.equal(cloud.exchanges[0]?.reason, "personal token, scope user:alice");
  assert.equal(cloud.exchanges[1]?.reason, refusal.error_description);
  const said = JSON.stringify([cloud.exchanges, refusal, garbage]);
  for (const secret of [access_token, ...good.split("."), ...bad.split("."), "secret-that-is-no-token"]) {
    assert.ok(secret && !said.includes(secret));
  }
});

test("a token's account is its user, or else its organization, in the form that the CLI reads", async (t) => {
  const cloud = await start(t, { runners: [{ id: "id-1", name: "pool" }] });
  const allow = { decision: "allow", rules: RULES };
  const policies = [
    ALICE,
    { ...allow, tokenType: "team", teamName: "ops" },
    { ...allow, tokenType: "organization" },
    { ...allow, tokenType: "runner", runnerID: "id-1" },
  ];
  await cloud.register(registrationOf(issuer, { policies }));

  const organizations = [{ githubLogin: "acme", name: "acme" }];
  for (const [type, scope, login, tokenInfo] of [
    ["personal", "user:alice", "alice", undefined],
    ["team", "team:ops", "acme", { name: "OIDC", organization: "acme", team: "ops" }],
    ["organization", "", "acme", { name: "OIDC", organization: "acme" }],
    ["runner", "runner:pool", "acme", { name: "OIDC", organization: "acme" }],
  ] as const) {
    const asked = { requested_token_type: `${TOKEN_TYPE}${type}`, scope };
    const { access_token, issued_token_type } = await exchange(cloud, await issuer.token(POD), asked);
    assert.equal(issued_token_type, asked.requested_token_type);
    const user = await account(cloud, "/api/user", `token ${access_token}`);
    assert.equal(user.status, 200);
    assert.deepEqual(user.body, {
      githubLogin: login,
      name: login,
      organizations,
      ...(tokenInfo && { tokenInfo }),
    });
    const organization = await account(cloud, "/api/user/organizations/default", `token ${access_token}`);
    assert.deepEqual(organization.body, { GitHubLogin: "acme", Messages: [] });
  }
});

test("no token, an unknown token, an id token and the Bearer scheme are all unauthorized", async (t) => {
  const cloud = await startRegistered(t);
  const idToken = await issuer.token(POD);
  const { access_token } = await exchange(cloud, idToken);
  for (const authorization of [
    "",
    "token ",
    "token pul-unknown",
    `token ${idToken}`,
    `Bearer ${access_token}`,
  ]) {
    assert.equal((await account(cloud, "/api/user", authorization)).status, 401, authorization.slice(0, 12));
  }
});

test("an access token works until its expiration and not after", async (t) => {
  const cloud = await startRegistered(t);
  const idToken = await issuer.token(POD);
  const earliest = Date.now() + 600_000;
  const { access_token } = await exchange(cloud, idToken, { expiration: "600" });
  const latest = Date.now() + 600_000;

  const clock = t.mock.method(Date, "now", () => earliest - 1);
  assert.equal((await account(cloud, "/api/user", `token ${access_token}`)).status, 200);
  clock.mock.mockImplementation(() => latest);
  assert.equal((await account(cloud, "/api/user", `token ${access_token}`)).status, 401);
});

test("any other endpoint is a 404, as the CLI expects of /api/capabilities", async (t) => {
  const cloud = await start(t);
  assert.equal((await account(cloud, "/api/capabilities", "")).status, 404);
});

type Options = Parameters<typeof startPulumiCloud>[1];

async function start(t: TestContext, options: Options = {}): Promise<PulumiCloud> {
  const cloud = await startPulumiCloud(authority, { registrationMilliseconds: 0, ...options });
  t.after(() => cloud.close());
  return cloud;
}

async function startRegistered(t: TestContext, registered = issuer): Promise<PulumiCloud> {
  const cloud = await start(t);
  await cloud.register(registrationOf(registered));
  return cloud;
}

async function startOwnIssuer(t: TestContext): Promise<ClusterIssuer> {
  const own = await startIssuer(authority);
  t.after(() => own.close());
  return own;
}

function registrationOf(
  issuer: ClusterIssuer,
  changes: Partial<IssuerRegistration> = {},
): IssuerRegistration {
  return {
    organization: "acme",
    name: "eks",
    url: issuer.url,
    maxExpirationSeconds: 7200,
    thumbprints: [issuer.thumbprint()],
    policies: [ALICE],
    ...changes,
  };
}

interface TokenAnswer {
  status: number;
  access_token?: string;
  issued_token_type?: string;
  expires_in?: number;
  error?: string;
  error_description?: string;
}

/** Asks for a personal token of alice, but for the fields that are given; an undefined one is not sent. */
async function exchange(
  cloud: PulumiCloud,
  idToken: string,
  fields: Record<string, string | undefined> = {},
): Promise<TokenAnswer> {
  const body = new URLSearchParams();
  for (const [name, value] of Object.entries({
    audience: "urn:pulumi:org:acme",
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    requested_token_type: `${TOKEN_TYPE}personal`,
    scope: "user:alice",
    subject_token: idToken,
    ...fields,
  })) {
    if (value !== undefined) body.set(name, value);
  }
  const response = await fetch(`${cloud.url}/api/oauth/token`, { method: "POST", body });
  return { ...((await response.json()) as object), status: response.status };
}

async function account(cloud: PulumiCloud, path: string, authorization: string) {
  const response = await fetch(`${cloud.url}${path}`, { headers: { authorization } });
  return { status: response.status, body: await response.json() };
}

/** A token with other claims under the old signature. */
function withPayload(token: string, changes: object): string {
  const [header, payload = "", signature] = token.split(".");
  const claims = { ...JSON.parse(Buffer.from(payload, "base64url").toString()), ...changes };
  return [header, Buffer.from(JSON.stringify(claims)).toString("base64url"), signature].join(".");
}
