// The login: the access token of one Pulumi Cloud is never sent to another.

import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as pulumi from "@pulumi/pulumi";
import { loginProblems } from "../../settings/login";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const API = "https://api.pulumi.com";
const OTHER = "https://pulumi.example.com";
/** Where no test has a login. */
const HIDDEN = { PULUMI_ACCESS_TOKEN: "", PULUMI_API: "", PULUMI_BACKEND_URL: "" };
const TOKEN = { PULUMI_ACCESS_TOKEN: "pul-hunter2" };
/** A state that is not in a Pulumi Cloud. */
const S3 = { PULUMI_BACKEND_URL: "s3://bucket" };

/** Which organization a program has is known only with an engine, or with mocks. */
const NO_ENGINE = { newResource: () => assert.fail(), call: () => assert.fail() };

interface Case {
  name: string;
  variables?: Record<string, string>;
  /** The content of the CLI's credentials.json. */
  stored?: object | string;
  /** Of the stack; without one, its state is in a self-managed backend. */
  organization?: string;
  /** What the reason names; the login is valid without it. */
  reason?: string;
}

const stored = (current: string) => ({ current, accessTokens: { [current]: "pul-hunter2" } });

const CASES: Case[] = [
  { name: "no login, of which the provider complains itself" },
  { name: "a login for pulumiApiUrl", stored: stored(`${API}/`) },
  {
    name: "a login for another Pulumi Cloud",
    stored: stored(OTHER),
    reason: `credentials.json is ${OTHER}. `,
  },
  {
    name: "the same over http",
    stored: stored("http://api.pulumi.com"),
    reason: "is http://api.pulumi.com. ",
  },
  {
    name: "a login for another one, with a self-managed state",
    variables: S3,
    stored: stored(OTHER),
    reason: OTHER,
  },
  { name: "a login for pulumiApiUrl, with a self-managed state", variables: S3, stored: stored(API) },
  {
    name: "a login that only the CLI can decrypt",
    stored: { $pulumiSecureStore: 1 },
    reason: "is encrypted",
  },
  { name: "credentials that no one can read", stored: '{"current": "pul-hunter2' },
  { name: "a token, with a self-managed state", variables: { ...TOKEN, ...S3 }, stored: stored(OTHER) },
  { name: "a token, with a self-managed state of Pulumi.yaml", variables: TOKEN, stored: stored(OTHER) },
  {
    name: "a token, with the login for another one of an older CLI",
    variables: TOKEN,
    stored: stored(OTHER),
    organization: "acme",
    reason: OTHER,
  },
  {
    name: "a token that the CLI passes for pulumiApiUrl",
    variables: { ...TOKEN, PULUMI_API: API },
    stored: stored(OTHER),
    organization: "acme",
  },
  {
    name: "a token that the CLI passes for another one",
    variables: { ...TOKEN, PULUMI_API: OTHER },
    stored: stored(API),
    reason: `(PULUMI_API) is ${OTHER}. `,
  },
  {
    name: "a token beside another backend",
    variables: { ...TOKEN, PULUMI_BACKEND_URL: `${OTHER}/` },
    reason: `PULUMI_BACKEND_URL is ${OTHER}. Log in to ${API}, or correct pulumiApiUrl`,
  },
  {
    name: "a backend that is not the current login",
    variables: { PULUMI_BACKEND_URL: API },
    stored: stored(OTHER),
    reason: `credentials.json is ${OTHER}. `,
  },
];

describe("a login is valid for pulumiApiUrl, or not, without a token in the message", () => {
  for (const { name, variables, stored, organization = "organization", reason } of CASES) {
    test(`${reason ? "not " : ""}${name}`, async (t) => {
      const directory = temporaryDirectory(t);
      const content = typeof stored === "string" ? stored : JSON.stringify(stored);
      if (content) await writeFile(join(directory, "credentials.json"), content);
      t.after(setVariables({ ...HIDDEN, PULUMI_CREDENTIALS_PATH: directory, ...variables }));
      await pulumi.runtime.setMocks(NO_ENGINE, "eks-pulumi-oidc", "dev", false, organization);

      const [problem, ...others] = loginProblems(API);
      assert.deepEqual(others, []);
      assert.equal(problem !== undefined, reason !== undefined, problem?.reason);
      assert.ok(problem?.reason.includes(reason ?? "") ?? true, problem?.reason);
      assert.doesNotMatch(JSON.stringify(problem ?? ""), /hunter2/);
    });
  }
});

test("reads the credentials of PULUMI_HOME, unless PULUMI_CREDENTIALS_PATH is set", async (t) => {
  const [home, path] = [temporaryDirectory(t), temporaryDirectory(t)];
  await writeFile(join(home, "credentials.json"), JSON.stringify(stored(OTHER)));
  t.after(setVariables({ ...HIDDEN, PULUMI_HOME: home, PULUMI_CREDENTIALS_PATH: "" }));
  assert.equal(loginProblems(API).length, 1);
  process.env.PULUMI_CREDENTIALS_PATH = path;
  assert.equal(loginProblems(API).length, 0);
});
