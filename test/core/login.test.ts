// The login: the access token of one Pulumi Cloud is never sent to another.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { loginProblems } from "../../settings/login";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const API = "https://api.pulumi.com";
const OTHER = "https://pulumi.example.com";
const TOKEN = { PULUMI_ACCESS_TOKEN: "pul-hunter2" };
/** What the CLI passes, and an inline program does not have. */
const PASSED = (PULUMI_API: string) => ({ ...TOKEN, PULUMI_API });
/** A state that is not in a Pulumi Cloud. */
const S3 = { PULUMI_BACKEND_URL: "s3://bucket" };

const BACKEND = { PULUMI_BACKEND_URL: `${OTHER}/` };
const WAYS_OUT = `Log in to ${API}, or correct pulumiApiUrl`;

/**
 * The variables, the URL of `pulumi login` or what else credentials.json contains, and the organization of the stack. Without
 * one, its state is in a self-managed backend. The reason of a login that is not valid for pulumiApiUrl contains the last
 * string.
 */
const LOGINS: [what: string, variables: object, stored: string, organization: string, reason?: string][] = [
  ["no login, of which the provider complains itself", {}, "", ""],
  ["a login for pulumiApiUrl", {}, `${API}/`, ""],
  ["a login for another Pulumi Cloud", {}, OTHER, "", `credentials.json is ${OTHER}. `],
  ["a login for a host that only begins like it", {}, `${API}.example`, "", `is ${API}.example. `],
  ["the same over http", {}, "http://api.pulumi.com", "", "is http://api.pulumi.com. "],
  ["a login for another one, with a self-managed state", S3, OTHER, "", "token: the current login in "],
  ["a login for pulumiApiUrl, with a self-managed state", S3, API, ""],
  ["a login that only the CLI can decrypt", {}, '{"$pulumiSecureStore":1}', "", "is encrypted"],
  ["credentials that no one can read", {}, '{"current": "pul-hunter2', ""],
  ["a token, with a self-managed state", { ...TOKEN, ...S3 }, OTHER, "acme"],
  ["a token, with a self-managed state of Pulumi.yaml", TOKEN, OTHER, ""],
  ["a token of an inline program, with the login for another one", TOKEN, OTHER, "acme", OTHER],
  ["a token that the CLI passes for pulumiApiUrl", PASSED(API), OTHER, "acme"],
  ["a token that the CLI passes for another one", PASSED(OTHER), API, "", `(PULUMI_API) is ${OTHER}. `],
  ["a backend that is not the current login", { PULUMI_BACKEND_URL: API }, OTHER, "", `is ${OTHER}. `],
  ["a token beside another backend", { ...TOKEN, ...BACKEND }, "", "", `is ${OTHER}. ${WAYS_OUT}`],
];

for (const [what, variables, stored, organization, reason] of LOGINS) {
  test(`${reason ? "rejects" : "accepts"} ${what}, without a token in a message`, async (t) => {
    setLogin(t, { PULUMI_CREDENTIALS_PATH: credentialsIn(t, stored), ...variables });
    await withOrganization(organization || "organization");

    const reasons = loginProblems(API).map((problem) => problem.reason);
    assert.equal(reasons.length, reason === undefined ? 0 : 1, reasons.join());
    assert.ok(reasons.join().includes(reason ?? ""), reasons.join());
    assert.doesNotMatch(reasons.join(), /hunter2/);
  });
}

for (const [what, variables, isAccepted] of [
  ["a self-managed state", S3, false],
  ["a self-managed state of Pulumi.yaml", {}, false],
  ["a self-managed state, and an invalid PULUMI_API", { ...S3, PULUMI_API: "pulumi.example.com" }, false],
  ["a self-managed state, and a PULUMI_API that names it", { ...S3, PULUMI_API: OTHER }, true],
] as const) {
  test(`${isAccepted ? "accepts" : "rejects"} a pulumiApiUrl other than the default for a token with ${what}`, async (t) => {
    setLogin(t, { PULUMI_CREDENTIALS_PATH: credentialsIn(t, OTHER), ...TOKEN, ...variables });
    await withOrganization("organization");
    const reasons = loginProblems(OTHER).map((problem) => problem.reason);
    const wayOut = `PULUMI_API, the default is ${API}. Set PULUMI_API to ${OTHER}, or correct pulumiApiUrl`;
    assert.equal(reasons.length, isAccepted ? 0 : 1);
    assert.ok(isAccepted || reasons[0]?.endsWith(wayOut), reasons[0]);
  });
}

test("reads the credentials of PULUMI_HOME, unless PULUMI_CREDENTIALS_PATH is set", (t) => {
  setLogin(t, { PULUMI_HOME: credentialsIn(t, OTHER), PULUMI_CREDENTIALS_PATH: "" });
  assert.equal(loginProblems(API).length, 1);
  process.env.PULUMI_CREDENTIALS_PATH = temporaryDirectory(t);
  assert.equal(loginProblems(API).length, 0);
});

/** Sets the organization of the stack, which is known only with an engine, or with mocks. */
async function withOrganization(organization: string): Promise<void> {
  const noEngine = { newResource: () => assert.fail(), call: () => assert.fail() };
  await pulumi.runtime.setMocks(noEngine, "eks-pulumi-oidc", "dev", false, organization);
}

/** Returns a directory with the credentials.json of a login, or without one. */
function credentialsIn(t: TestContext, stored: string): string {
  const directory = temporaryDirectory(t);
  const login = { current: stored, accessTokens: { [stored]: "pul-hunter2" } };
  const credentials = stored.startsWith("{") ? stored : JSON.stringify(login);
  if (stored) writeFileSync(join(directory, "credentials.json"), credentials);
  return directory;
}

/** Sets these variables, and no others that a login has, until the test ends. */
function setLogin(t: TestContext, variables: object): void {
  const others = { PULUMI_ACCESS_TOKEN: "", PULUMI_API: "", PULUMI_BACKEND_URL: "" };
  t.after(setVariables({ ...others, ...variables }));
}
