// Asks a real Pulumi Cloud what this project assumes, and removes what it has created: docs/trial.md.
//
// No token is stored, printed, or an argument of a process. Yours is sent to Pulumi Cloud only.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const USAGE = `Usage: npm run trial -- ORGANIZATION [--user LOGIN] [--yes] [--stack STACK] [--api-url URL]

  --user     ask for a token of this user as well, which is valid in all of the user's organizations
  --yes      begin without a confirmation
  --stack    the stack, by default ORGANIZATION/trial
  --api-url  the Pulumi Cloud, by default https://api.pulumi.com

Exit codes:

  0   this project works as it is
  1   it does not work
  2   a required question was not asked, or something is left
  3   it works with the settings that the last lines name
  64  invalid arguments, or not confirmed`;

/** The name of the namespace, the issuer, a team, the custom role, and the project of the environment. */
const NAME = "pulumi-trial";
const OTHER_TEAM = "pulumi-trial-other";
/** The lifetime of each ID token and access token. */
const TOKEN_SECONDS = 600;

/** How long a question waits for the expected answer. Tests set the variable to wait less. */
const WAIT_SECONDS = Number(process.env.TRIAL_WAIT_SECONDS ?? 60);
const PAUSE_SECONDS = WAIT_SECONDS / 20;
const REQUEST_SECONDS = 30;
const ATTEMPTS = 3;

interface Question {
  /** What is true if the verdict is `held`. */
  asks: string;
  /** Whether this project only works if it is held, or with the setting. */
  required?: true;
  /** With which setting this project works if it is not held. */
  setting?: string;
  /** What else it means if it is not held. */
  not?: string;
}

const QUESTIONS = {
  "team-token": { asks: "A listed service account is granted its team's token.", required: true },
  unlisted: { asks: "A service account that isn't listed is denied.", required: true },
  "error-form": { asks: "A denial has status 400, 401, or 403.", not: "the exchange script must know it" },
  "other-account": { asks: "A listed service account is denied another one's token.", required: true },
  removed: { asks: "A service account that was removed from the list is denied.", required: true },
  "aud-other": { asks: "A rule on `aud` denies ID tokens for another service.", required: true },
  "aud-list": {
    asks: "A rule on `aud` matches the list in an ID token.",
    required: true,
    setting: "set `audienceRule: false`",
  },
  "org-token": {
    asks: "An `organization` token is granted without a role.",
    setting: "set `organizationRoleId` in each entry with `tokenType: organization`",
  },
  "org-role": { asks: "An `organization` token is granted with a custom role.", not: "use another type" },
  "open-only": { asks: "A role with only `environment:open` opens an environment.", not: "it needs more" },
  "wrong-role": { asks: "The ID of a role that doesn't exist grants nothing.", not: "check each ID" },
  "own-token": { asks: "A listed service account is granted a user's token.", not: "use another type" },
  job: { asks: "In a pod, the exchange script and the Pulumi CLI get a token.", required: true },
  "stale-thumbprint": {
    asks: "An update may have a thumbprint that isn't the certificate's.",
    not: "`pulumi up` fails once the issuer has a new certificate",
  },
} satisfies Record<string, Question>;
type QuestionId = keyof typeof QUESTIONS;

interface Verdict {
  verdict: "held" | "not" | "not asked";
  why: string;
  /** The HTTP status of the answer that decided. */
  status?: number;
}

const verdicts = new Map<QuestionId, Verdict>();

const { organization, options } = readArguments();
const apiUrl = options["api-url"] ?? "https://api.pulumi.com";
const stack = options.stack ?? `${organization}/trial`;
const audience = `urn:pulumi:org:${organization}`;
const accessToken = readAccessToken();

// What `lookAround` finds.
let login = "";
let context = "";
let issuerUrl = "";

/** Why nothing could be deployed. */
let failure: string | undefined;

async function main(): Promise<number> {
  const versions = await lookAround();
  progress(announcement());
  if (!options.yes && !(await isConfirmed())) {
    progress("Nothing was created.");
    return 64;
  }

  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) process.on(signal, stop);
  console.log(`${versions}\n\n| | question | verdict | |\n| --- | --- | --- | --- |`);
  await deploy().catch((error) => {
    failure = messageOf(error);
    progress(error.cause ?? failure);
  });
  await askAll();
  isRemoving = true;
  return conclude(await removeAll());
}

function readArguments() {
  const string = { type: "string" } as const;
  const flags = { user: string, yes: { type: "boolean" }, stack: string, "api-url": string } as const;
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: flags });
    const [organization, ...others] = positionals;
    if (organization && others.length === 0) return { organization, options: values };
  } catch {}
  progress(USAGE);
  process.exit(64);
}

/** Returns your access token, as the CLI finds it: sdk/go/common/workspace/creds.go of pulumi/pulumi. */
function readAccessToken(): string {
  const { PULUMI_ACCESS_TOKEN, PULUMI_CREDENTIALS_PATH, PULUMI_HOME } = process.env;
  if (PULUMI_ACCESS_TOKEN) return PULUMI_ACCESS_TOKEN;
  const directory = PULUMI_CREDENTIALS_PATH || PULUMI_HOME || join(userInfo().homedir, ".pulumi");
  try {
    const { accessTokens } = JSON.parse(readFileSync(join(directory, "credentials.json"), "utf8"));
    if (typeof accessTokens[apiUrl] === "string") return accessTokens[apiUrl];
  } catch {}
  progress(`No access token for ${apiUrl}: run pulumi login ${apiUrl}, or set PULUMI_ACCESS_TOKEN.`);
  process.exit(2);
}

// What is created ---------------------------------------------------------------------------------------------------------------

interface Thing {
  what: string;
  /** Returns the ID of each that exists. @throws Error if that can't be read. */
  find(): Promise<string[]>;
  remove(id: string): Promise<unknown>;
}

const ofOrganization = `/api/orgs/${organization}`;
const environments = `/api/esc/environments/${organization}`;

/** What exists only during the trial, in the order in which it is removed. */
const THINGS = {
  stack: {
    what: `the stack ${stack}`,
    find: () => pulumi("stack", "output", "--stack", stack).then(() => [stack], noneIfMissing),
    remove: () => pulumi("destroy", "--stack", stack, "--yes", "--skip-preview", "--remove"),
  },
  issuer: {
    what: `the OIDC issuer ${NAME} (${organization})`,
    find: () =>
      list(`${ofOrganization}/oidc/issuers`, "oidcIssuers", (it) => it.name === NAME || it.url === issuerUrl),
    remove: (id) => remove(`${ofOrganization}/oidc/issuers/${id}`),
  },
  role: {
    what: `the custom role ${NAME} (${organization})`,
    find: () => list(`${ofOrganization}/roles?uxPurpose=role`, "roles", (it) => it.name === NAME),
    remove: (id) => remove(`${ofOrganization}/roles/${id}?force=true`),
  },
  environment: {
    what: `the environment ${NAME}/trial (${organization})`,
    find: () => list(environments, "environments", (it) => it.project === NAME && !it.deletedAt),
    remove: () => remove(`${environments}/${NAME}/trial`),
  },
  team: team(NAME),
  otherTeam: team(OTHER_TEAM),
  namespace: {
    what: `the namespace ${NAME} of the cluster`,
    find: async () => {
      const found = await kubectl("get", "namespace", NAME, "--ignore-not-found", "--output=name");
      return found.split("\n").filter(Boolean);
    },
    remove: () => kubectl("delete", "namespace", NAME, "--ignore-not-found", "--timeout=3m"),
  },
} satisfies Record<string, Thing>;

function team(name: string): Thing {
  return {
    what: `the team ${name} (${organization})`,
    find: () => list(`${ofOrganization}/teams`, "teams", (it) => it.name === name),
    remove: () => remove(`${ofOrganization}/teams/${name}`),
  };
}

/** What can exist: each thing is noted before it is created. */
const noted = new Set<Thing>();

/** Reads what the trial needs. @returns the versions. @throws Error if it could not remove all that it creates. */
async function lookAround(): Promise<string> {
  context = (await run("kubectl", ["config", "current-context"])).trim();
  issuerUrl = JSON.parse(await kubectl("get", "--raw", "/.well-known/openid-configuration")).issuer;
  login = String((await required("GET", "/api/user")).githubLogin);
  const { serverVersion } = JSON.parse(await kubectl("version", "--output=json"));
  const commit = await run("git", ["describe", "--always", "--dirty"]).catch(() => "unknown");

  const existing = await existingOf(Object.values(THINGS));
  if (existing.length > 0) {
    throw new Error(`Nothing was created. Before a trial, this must not exist:\n- ${existing.join("\n- ")}`);
  }
  const cli = await pulumi("version");
  return `Kubernetes ${serverVersion.gitVersion}, Pulumi CLI ${cli.trim()}, this project at ${commit.trim()}`;
}

/** Returns those that exist, and why it is not known of others. */
async function existingOf(things: Thing[]): Promise<string[]> {
  const existing = things.map(({ what, find }) =>
    find().then(
      (ids) => (ids.length > 0 ? [what] : []),
      (error) => [`${what}: could not be looked up: ${excerpt(messageOf(error))}`],
    ),
  );
  return (await Promise.all(existing)).flat();
}

function announcement(): string {
  const ofUser = `For one question, they can also get a token of ${options.user}, which is valid in all organizations of ${options.user}.\n`;
  return `
This asks ${apiUrl} what this project assumes, in about 5 minutes. It creates, and removes at the end:

- in the organization ${organization}: the stack ${stack}, the OIDC issuer ${NAME} with the URL ${issuerUrl},
  the teams ${NAME} and ${OTHER_TEAM} without members and permissions, an empty environment ${NAME}/trial,
  and the custom role ${NAME}, which can open it
- in the cluster of the context ${context}: the namespace ${NAME}, in which one pod runs

Meanwhile, anyone who can create tokens or pods in this namespace can get access tokens of these teams and of ${organization},
which can do what every member can, and expire after ${TOKEN_SECONDS / 60} minutes.
${options.user ? ofUser : ""}
Pulumi Cloud bills less than a cent, and AWS nothing.
`;
}

/** Returns whether the answer is yes. A closed terminal is a no. */
async function isConfirmed(): Promise<boolean> {
  process.stderr.write("Continue? [y/N] ");
  for await (const line of createInterface({ input: process.stdin })) return /^y/i.test(line);
  return false;
}

async function deploy(): Promise<void> {
  progress("Deploying.");
  noted.add(THINGS.stack);
  await pulumi("stack", "init", stack).catch((error: Error) => {
    // Of another trial, which has begun at the same time.
    if (/already exists/.test(error.message)) noted.delete(THINGS.stack);
    throw error;
  });

  await createTeam(THINGS.team, NAME);
  await createTeam(THINGS.otherTeam, OTHER_TEAM);
  noted.add(THINGS.issuer).add(THINGS.namespace);
  await update({ runJob: false, audienceRule: false });
  await kubectl("create", "serviceaccount", "unlisted", "--namespace", NAME);
  await kubectl("create", "serviceaccount", "marker", "--namespace", NAME);
}

async function createTeam(thing: Thing, name: string): Promise<void> {
  const description = "Removed at the end of the trial";
  const team = { organization, teamType: "pulumi", name, displayName: name, description };
  await create(thing, `${ofOrganization}/teams/pulumi`, team);
  // Who creates a team is a member: https://github.com/pulumi/pulumi-pulumiservice/issues/278
  const removal = { memberAction: "remove", member: login };
  const answer = await asYou("PATCH", `${ofOrganization}/teams/${name}`, removal);
  if (!answer.isYes) progress(`You can still be a member of ${name}: ${said(answer)}`);
}

/** Deploys the program beside this file. */
async function update(settings: { runJob: boolean; audienceRule: boolean }): Promise<void> {
  const all = { organization, issuerUrl, context, pulumiApiUrl: apiUrl, ...settings };
  const config = Object.entries(all).map(([key, value]) => `--config=${key}=${value}`);
  await pulumi("up", "--stack", stack, "--yes", "--skip-preview", ...config);
}

/** Creates an environment, and a role that can open it and nothing else. @returns the role's ID. */
async function createRole(): Promise<string> {
  await create(THINGS.environment, environments, { project: NAME, name: "trial" });
  const { id: identity } = await required("GET", `${environments}/${NAME}/trial/metadata`);
  // pulumi/pulumi-pulumiservice, provider/pkg/functions/role_permissions.go.
  const condition = {
    __type: "PermissionExpressionEqual",
    left: { __type: "PermissionExpressionEnvironment" },
    right: { __type: "PermissionLiteralExpressionEnvironment", identity },
  };
  const subNode = { __type: "PermissionDescriptorAllow", permissions: ["environment:open"] };
  const details = { __type: "PermissionDescriptorCondition", condition, subNode };
  const role = { name: NAME, resourceType: "global", uxPurpose: "role", details };
  return create(THINGS.role, `${ofOrganization}/roles`, role);
}

/** Creates a thing. An answer can get lost, so what counts is whether it exists afterward. @returns its ID. */
function create(thing: Thing, path: string, body: object): Promise<string> {
  noted.add(thing);
  return repeated(async () => {
    const answer = await request("POST", path, body, accessToken).catch(messageOf);
    const [id] = await thing.find();
    if (id !== undefined) return id;
    throw new Error(`${thing.what} was not created: ${typeof answer === "string" ? answer : said(answer)}`);
  });
}

// The questions -----------------------------------------------------------------------------------------------------------------

async function askAll(): Promise<void> {
  if (failure === undefined) progress("Asking.");
  const trial = (options = {}) => exchange("trial", `team:${NAME}`, options);
  const other = (options = {}) => exchange("other", `team:${OTHER_TEAM}`, options);
  const ofAnother = { audience: "sts.amazonaws.com" };
  const asOrganization = () => exchange("trial", "", { tokenType: "organization" });

  const ofTrial = policyOf("trial", { tokenType: "team", teamName: NAME });
  const ofTrialWithRule = { ...ofTrial, rules: { ...ofTrial.rules, aud: audience } };
  const ofOther = policyOf("other", { tokenType: "team", teamName: OTHER_TEAM });
  const withOrganization = (role = {}) => {
    return [ofTrial, ofOther, policyOf("trial", { tokenType: "organization", ...role })];
  };

  await ask("team-token", "granted", trial);
  await ask("unlisted", "denied", () => exchange("unlisted", `team:${NAME}`), { control: trial });
  await question("error-form", async () => {
    const { why, status = 0 } = held("unlisted");
    return { verdict: [400, 401, 403].includes(status) ? "held" : "not", why };
  });
  await ask("other-account", "denied", () => exchange("other", `team:${NAME}`), { control: other });
  await ask("removed", "denied", other, {
    requires: "other-account",
    policies: () => [ofTrial],
    control: trial,
  });

  // The denial shows that the rule is effective, so a denial of `aud-list` is the rule's.
  await ask("aud-other", "denied", () => trial(ofAnother), {
    policies: () => [ofTrialWithRule, ofOther],
    control: () => other(ofAnother),
  });
  await ask("aud-list", "granted", trial, { requires: "aud-other", control: other });

  await ask("org-token", "granted", asOrganization, {
    policies: withOrganization,
    control: trial,
    ifRejected: "not",
  });
  await ask("org-role", "granted", asOrganization, {
    policies: async () => withOrganization({ roleID: await createRole() }),
    control: trial,
    ifRejected: "not",
  });
  await ask("open-only", "granted", () => openEnvironment(asOrganization), {
    requires: "org-role",
    control: asOrganization,
  });
  await ask("wrong-role", "denied", asOrganization, {
    requires: "org-role",
    policies: () => withOrganization({ roleID: "00000000-0000-4000-8000-000000000000" }),
    control: trial,
    ifRejected: "held",
  });

  const { user } = options;
  if (user) {
    const asUser = () => exchange("trial", `user:${user}`, { tokenType: "personal" });
    const ofUser = policyOf("trial", { tokenType: "personal", userLogin: user });
    await ask("own-token", "granted", asUser, { policies: () => [ofTrial, ofOther, ofUser], control: trial });
  }

  await question("job", async () => {
    const audienceRule = verdicts.get("aud-list")?.verdict === "held";
    await change([audienceRule ? ofTrialWithRule : ofTrial, ofOther]);
    await granted(trial);
    const verdict = await runJob(audienceRule);
    await granted(trial);
    return verdict;
  });

  // The last one: a stale thumbprint can end the exchanges.
  const patch = async (thumbprints = {}) => {
    const [issuer] = await THINGS.issuer.find();
    return asYou("PATCH", `${ofOrganization}/oidc/issuers/${issuer}`, { name: NAME, ...thumbprints });
  };
  const stale = { thumbprints: ["0".repeat(64)] };
  await ask("stale-thumbprint", "granted", () => patch(stale), { control: patch });
}

interface AskOptions {
  /** Returns the policies with which it is asked, if not with the previous ones. */
  policies?: () => Policy[] | Promise<Policy[]>;
  /** What it means if Pulumi Cloud rejects these policies. */
  ifRejected?: "held" | "not";
  /** Differs in one thing, and must be granted before and after: else, a denial says nothing. */
  control?: () => Promise<Answer>;
  /** Must be held: else, this question is not asked. */
  requires?: QuestionId;
}

/** Asks until the answer is the expected one, at most for WAIT_SECONDS. */
function ask(
  id: QuestionId,
  expected: "granted" | "denied",
  subject: () => Promise<Answer>,
  { policies, ifRejected, control, requires }: AskOptions = {},
): Promise<void> {
  return question(id, async () => {
    if (requires) held(requires);
    const rejection = policies && (await change(await policies(), ifRejected));
    if (!rejection && control) await granted(control);
    const answer = rejection ?? (await until(expected, subject));
    if (control) await granted(control);
    if (rejection) return { verdict: ifRejected ?? "not", why: `the policy was rejected: ${said(answer)}` };

    const seconds = Math.round((Date.now() - changedAt) / 1000);
    const why = [policies || requires ? `after ${seconds} s` : "", said(answer)].filter(Boolean).join(", ");
    const isHeld = answer.isYes === (expected === "granted");
    return { verdict: isHeld ? "held" : "not", why, status: answer.status };
  });
}

/** Asks a question, and prints the verdict. Whatever fails, the question was not asked. */
async function question(id: QuestionId, decide: () => Promise<Verdict>): Promise<void> {
  const notAsked = (why: string): Verdict => ({ verdict: "not asked", why: excerpt(why) });
  const verdict = failure ? notAsked(failure) : await decide().catch((error) => notAsked(messageOf(error)));
  verdicts.set(id, verdict);
  console.log(`| \`${id}\` | ${QUESTIONS[id].asks} | ${verdict.verdict} | ${verdict.why} |`);
}

/** @throws Error if the verdict on a question is not `held`. */
function held(id: QuestionId): Verdict {
  const verdict = verdicts.get(id);
  if (verdict?.verdict !== "held") throw new Error(`${id} is not held`);
  return verdict;
}

/** @throws Error if a control is denied. */
async function granted(control: () => Promise<Answer>): Promise<void> {
  const answer = await repeated(control);
  if (!answer.isYes) throw new Error(`the control is denied, too: ${said(answer)}`);
}

async function until(expected: "granted" | "denied", subject: () => Promise<Answer>): Promise<Answer> {
  const end = Date.now() + WAIT_SECONDS * 1000;
  for (;;) {
    const answer = await repeated(subject);
    if (answer.isYes === (expected === "granted") || Date.now() >= end) return answer;
    await pause();
  }
}

/** Deploys the Job. Its pod runs the exchange script, and then the CLI. */
async function runJob(audienceRule: boolean): Promise<Verdict> {
  progress("Running the Job.");
  try {
    await update({ runJob: true, audienceRule });
    return { verdict: "held", why: "" };
  } catch (error) {
    const log = String((error as Error).cause ?? messageOf(error));
    progress(log);
    const [line = messageOf(error), reason = ""] = /exchange-token: (.*)/.exec(log) ?? [];
    if (!/denied the token exchange: HTTP 4\d\d: .?\{/.test(line)) throw new Error(line);
    return { verdict: "not", why: excerpt(reason) };
  }
}

/** Opens the environment with an access token. @throws Error if none is granted. */
async function openEnvironment(exchanged: () => Promise<Answer>): Promise<Answer> {
  const { isYes, body } = await exchanged();
  if (!isYes) throw new Error("no token for it was granted");
  const path = `${environments}/${NAME}/trial/open?duration=2h`;
  return request("POST", path, undefined, String(body.access_token));
}

// The policies of the issuer ----------------------------------------------------------------------------------------------------

interface Policy {
  [key: string]: unknown;
  rules: Record<string, string>;
}

/** Returns an allow policy as AuthPolicyDefinition of Pulumi Cloud's API, as the program deploys it. */
function policyOf(account: string, grant: object): Policy {
  const rules = { '"kubernetes.io".namespace': NAME, '"kubernetes.io".serviceaccount.name': account };
  return { decision: "allow", authorizedPermissions: [], ...grant, rules };
}

// Each change lists the service account `marker`, or no longer lists it. Once its answer is the new one, the change is effective.
let isMarkerListed = false;
let arePoliciesKnown = true;
let changedAt = 0;

/**
 * Replaces the policies, and waits until they are effective.
 *
 * @param ifRejected returns a rejection, which changes nothing, instead of throwing it.
 * @throws Error if they were not effective in time. No later change can be told from this one, so that it throws as well.
 */
async function change(policies: Policy[], ifRejected?: "held" | "not"): Promise<Answer | undefined> {
  if (!arePoliciesKnown) throw new Error("an earlier change of the policies was not effective in time");
  const [issuer] = await THINGS.issuer.find();
  const { id } = await required("GET", `${ofOrganization}/auth/policies/oidcissuers/${issuer}`);
  const isListed = !isMarkerListed;
  const marker = isListed ? [policyOf("marker", { tokenType: "team", teamName: NAME })] : [];

  arePoliciesKnown = false;
  const answer = await asYou("PATCH", `${ofOrganization}/auth/policies/${id}`, {
    policies: [...policies, ...marker],
  });
  if (answer.isYes) {
    changedAt = Date.now();
    const { isYes } = await until(isListed ? "granted" : "denied", () => exchange("marker", `team:${NAME}`));
    if (isYes !== isListed) throw new Error(`no change of the policies was effective in ${WAIT_SECONDS} s`);
    isMarkerListed = isListed;
  }
  arePoliciesKnown = true;
  if (!answer.isYes && !ifRejected) throw new Error(`the policies were rejected: ${said(answer)}`);
  return answer.isYes ? undefined : answer;
}

// Requests ----------------------------------------------------------------------------------------------------------------------

/** A yes or a no of Pulumi Cloud. Everything else, such as the page of a proxy or an overload, is thrown. */
interface Answer {
  isYes: boolean;
  status: number;
  body: Record<string, unknown>;
}

/** Exchanges an ID token of a service account, as scripts/exchange-token.sh does. */
async function exchange(
  account: string,
  scope: string,
  { tokenType = "team", audience: ofIdToken = audience } = {},
): Promise<Answer> {
  const flags = [`--namespace=${NAME}`, `--audience=${ofIdToken}`, `--duration=${TOKEN_SECONDS}s`];
  const subject_token = (await kubectl("create", "token", account, ...flags)).trim();
  const body = new URLSearchParams({
    audience,
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    requested_token_type: `urn:pulumi:token-type:access_token:${tokenType}`,
    scope,
    expiration: String(TOKEN_SECONDS),
    subject_token,
  });
  const answer = await request("POST", "/api/oauth/token", body);
  const isToken = typeof answer.body.access_token === "string";
  if (answer.isYes && !isToken) throw new Error(`HTTP ${answer.status} without a token`);
  return answer;
}

/** Sends a request as you, which can be repeated. */
function asYou(method: "GET" | "PATCH" | "DELETE", path: string, body?: object): Promise<Answer> {
  return repeated(() => request(method, path, body, accessToken));
}

/** @returns the body of a yes. @throws Error with a no. */
async function required(method: "GET" | "PATCH", path: string, body?: object): Promise<Answer["body"]> {
  const answer = await asYou(method, path, body);
  if (!answer.isYes) throw new Error(`${method} ${path}: ${said(answer)}`);
  return answer.body;
}

async function remove(path: string): Promise<void> {
  const answer = await asYou("DELETE", path);
  if (!answer.isYes && answer.status !== 404) throw new Error(`DELETE ${path}: ${said(answer)}`);
}

/** Returns the IDs, or else the names, of the wanted elements of a list, from all of its pages. @throws Error if it is not one. */
async function list(
  path: string,
  key: string,
  isWanted: (element: Record<string, unknown>) => boolean,
): Promise<string[]> {
  const ids: string[] = [];
  let next: unknown;
  do {
    const page = next ? `${path.includes("?") ? "&" : "?"}continuationToken=${next}` : "";
    const body = await required("GET", path + page);
    // An empty list of Go can be `null` in JSON.
    const elements = key in body ? (body[key] ?? []) : undefined;
    if (!Array.isArray(elements)) throw new Error(`GET ${path} returned no list`);
    ids.push(...elements.filter(isWanted).map(({ id, name }) => String(id ?? name)));
    next = body.nextToken;
  } while (next);
  return ids;
}

/** Sends a request, and follows no redirect. @throws Error without a yes or a no. */
async function request(method: string, path: string, body?: object, token = ""): Promise<Answer> {
  throwIfStopped();
  const isForm = body instanceof URLSearchParams;
  const response = await fetch(apiUrl + path, {
    method,
    redirect: "manual",
    signal: AbortSignal.timeout(REQUEST_SECONDS * 1000),
    headers: {
      accept: "application/vnd.pulumi+8",
      "content-type": isForm ? "application/x-www-form-urlencoded" : "application/json",
      ...(token && { authorization: `token ${token}` }),
    },
    ...(body && { body: isForm ? body : JSON.stringify(body) }),
  }).catch(({ message, cause }: Error) => {
    throw new Error(`no answer: ${cause instanceof Error ? cause.message : message}`);
  });
  const { status, ok } = response;
  const content = await response.text();
  const parsed = ok && content === "" ? {} : objectIn(content);
  const isNo = status >= 400 && status < 500 && status !== 408 && status !== 429;
  if (!parsed || !(ok || isNo)) throw new Error(`HTTP ${status}: ${content}`);
  return { isYes: ok, status, body: parsed };
}

/** Returns the JSON object in a text; undefined if it is something else. */
function objectIn(content: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(content);
    return value instanceof Object && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

/** Returns what an answer says, for a cell of the table. */
function said({ isYes, status, body }: Answer): string {
  if (isYes) return "";
  return `HTTP ${status}: ${excerpt(String(body.error_description ?? body.message ?? JSON.stringify(body)))}`;
}

/** Returns the beginning of a text for a cell of the table, without what could be a token. */
function excerpt(message: string): string {
  return message
    .replaceAll(/pul-[0-9a-f]+|eyJ[\w.-]+/g, "[redacted]")
    .replaceAll(/\s+/g, " ")
    .replaceAll(/[^ -~]|\|/g, "?")
    .slice(0, 200);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Does something until it succeeds: three times at most. */
async function repeated<T>(act: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await act();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await pause();
    }
  }
}

// Programs ----------------------------------------------------------------------------------------------------------------------

const running = new Set<ChildProcess>();

const kubectl = (...args: string[]) => run("kubectl", [`--context=${context}`, ...args]);
const pulumi = (...args: string[]) => run("pulumi", ["--non-interactive", "--color=never", ...args]);

/**
 * Runs a program, in a process group that Ctrl-C and a closed terminal don't end.
 *
 * @returns its standard output. @throws Error with its error, and all that it has printed as the cause.
 */
async function run(program: string, args: string[]): Promise<string> {
  throwIfStopped();
  const child = spawn(program, args, { cwd: __dirname, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  const ended = once(child, "close").catch(() => {
    throw new Error(`${program} could not be started. Is it on PATH?`);
  });
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  running.delete(child);
  throwIfStopped();
  if (child.exitCode === 0) return stdout;
  const printed = stdout + stderr;
  const [reason = printed] = /error: .*/is.exec(printed) ?? [];
  throw new Error(`${program} failed: ${reason.trim()}`, { cause: printed });
}

function noneIfMissing({ message }: Error): string[] {
  if (/no stack named/.test(message)) return [];
  throw new Error(message);
}

// The end -----------------------------------------------------------------------------------------------------------------------

let isRemoving = false;
const stopped = new AbortController();

/** Ends the questions, but not the request that is under way: what it creates must be found. */
function stop(): void {
  if (isRemoving || stopped.signal.aborted) return;
  progress("Stopping.");
  stopped.abort();
  // `pulumi up` can take minutes. It cancels the update, and ends.
  for (const child of running) child.kill("SIGINT");
}

function throwIfStopped(): void {
  if (stopped.signal.aborted && !isRemoving) throw new Error("stopped");
}

async function pause(): Promise<void> {
  throwIfStopped();
  const signal = isRemoving ? undefined : stopped.signal;
  await sleep(PAUSE_SECONDS * 1000, undefined, { signal }).catch(throwIfStopped);
}

/** Removes what is noted, in three attempts. @returns what is left. */
async function removeAll(): Promise<string[]> {
  progress("Removing.");
  const things = Object.values(THINGS).filter((thing) => noted.has(thing));
  let left: string[] = [];
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    if (attempt > 1) await pause();
    for (const { what, find, remove } of things) {
      const removal = find().then((ids) => Promise.all(ids.map(remove)));
      await removal.catch((error) => progress(`${what} could not be removed: ${messageOf(error)}`));
    }
    left = await existingOf(things);
    if (left.length === 0) break;
  }
  return left;
}

/** Prints what is left, and what the verdicts mean. @returns the exit code. */
function conclude(left: string[]): number {
  console.log(left.length === 0 ? "\nNothing is left." : `\nThis is left:\n\n- ${left.join("\n- ")}`);
  const failed = questionsWith("not");
  const code = codeOf(failed, questionsWith("not asked"));
  console.log(`\n${CONCLUSIONS[code]}\n`);
  for (const [id, { setting, not }] of failed)
    console.log(`- \`${id}\`: ${setting ?? not ?? "this is required"}.`);
  return left.length === 0 ? code : 2;
}

function questionsWith(verdict: Verdict["verdict"]): [QuestionId, Question][] {
  const ids = [...verdicts.keys()].filter((id) => verdicts.get(id)?.verdict === verdict);
  return ids.map((id) => [id, QUESTIONS[id]]);
}

const CONCLUSIONS = [
  "This project works here as it is.",
  "This project does not work here.",
  "It is not known whether this project works here: a required question was not asked.",
  "This project works here, with a setting.",
] as const;

function codeOf(failed: [string, Question][], notAsked: [string, Question][]): 0 | 1 | 2 | 3 {
  if (failed.some(([, { required, setting }]) => required && !setting)) return 1;
  if (notAsked.some(([, { required }]) => required)) return 2;
  return failed.some(([, { setting }]) => setting) ? 3 : 0;
}

function progress(message: string): void {
  console.error(message);
}

// A closed terminal must not end the removal. Node.js 20 would abort at the end if it found one.
let isTerminalClosed = false;
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", () => {
    isTerminalClosed = true;
  });
}

main()
  .catch((error) => {
    progress(messageOf(error));
    return 2;
  })
  .then((code) => {
    if (isTerminalClosed) for (const stream of [0, 1, 2]) closeSync(stream);
    process.exit(code);
  });
