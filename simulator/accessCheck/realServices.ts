// Asks the real Pulumi Cloud and AWS STS, with ID tokens of the real cluster.

import { decodeJwt } from "jose";
import { assumeRole } from "./awsSts";
import type { DeployedStack, Kubectl } from "./deployedStack";
import { comparePolicies, type Difference, type IssuerPolicy } from "./issuerPolicies";
import {
  type Answer,
  audienceOf,
  type Question,
  type ServiceAccount,
  withInvalidSignature,
} from "./questions";
import { shellQuoted, visible } from "./terminal";
import { requestAccessToken } from "./tokenExchange";
import { type Run, ToolError } from "./tools";

// In seconds. The first is the shortest that Kubernetes grants; Pulumi Cloud documents no lower bound.
const ID_TOKEN_SECONDS = 600;
const ACCESS_TOKEN_SECONDS = 60;

const REQUEST_SECONDS = 10;

/** An RS256 signature with 2,048 bits has 342 characters. */
const SHOWN_CHARACTERS = 200;

/**
 * Returns the function that asks Pulumi Cloud and AWS STS.
 *
 * @param run runs the AWS CLI, which asks AWS STS.
 * @param stop ends the request that runs.
 */
export function askServices(
  stack: DeployedStack,
  kubectl: Kubectl,
  run: Run,
  stop: AbortSignal,
): (question: Question) => Promise<Answer> {
  const idToken = idTokens(stack, kubectl);
  return async (question) => {
    const { account, service } = question;
    const token = await idToken(question);
    const isRole = service === "IAM role";
    try {
      const answer = isRole
        ? await assumeRole(stack, account.role?.arn ?? "", token, run)
        : await exchange(stack, account, token, stop);
      return { ...answer, reason: shown(answer.reason) };
    } catch (error) {
      const sts = `AWS STS ${stack.stsUrl ? `at ${stack.stsUrl}` : `in ${stack.region}`}`;
      const asked = isRole ? sts : `Pulumi Cloud at ${stack.pulumiCloudUrl}`;
      const reason = shown((error as Error).message);
      throw new Error(`Failed to ask ${asked}: ${reason}. The check is incomplete; run it again.`);
    }
  };
}

/** Requests the access token of a service account, with the shortest lifetime. */
async function exchange(
  { pulumiCloudUrl }: DeployedStack,
  { settings }: ServiceAccount,
  token: string,
  stop: AbortSignal,
): Promise<Answer> {
  const shortest = { ...settings, tokenExpirationSeconds: String(ACCESS_TOKEN_SECONDS) };
  // Used below, too: Node.js collects a signal to which nothing refers, and it then never aborts.
  const timeout = AbortSignal.timeout(REQUEST_SECONDS * 1000);
  try {
    return await requestAccessToken(pulumiCloudUrl, shortest, token, AbortSignal.any([stop, timeout]));
  } catch (error) {
    const { message, cause } = error as RequestError;
    // Node.js also limits the time for a connection to 10 seconds.
    const isLate = timeout.aborted || cause?.code === "UND_ERR_CONNECT_TIMEOUT";
    throw new Error(
      isLate ? `no answer within ${REQUEST_SECONDS} s` : (cause?.code ?? cause?.message ?? message),
    );
  }
}

/** An error of `fetch`. */
type RequestError = Error & { cause?: Error & { code?: string } };

/** Returns what may be shown of an answer: redacted, and too short for a signature that was cut into pieces. */
export function shown(text: string): string {
  const printable = redact(text).replaceAll("\n", " ");
  return printable.length > SHOWN_CHARACTERS ? `${printable.slice(0, SHOWN_CHARACTERS - 1)}…` : printable;
}

/** Returns the function that requests the ID token of a question from the cluster. */
function idTokens({ issuerUrl }: DeployedStack, kubectl: Kubectl): (question: Question) => Promise<string> {
  // Questions that follow each other often require the same token.
  let last = { key: "", token: "" };
  return async (question) => {
    const { namespace, name, defect } = question.caller;
    const audience = audienceOf(question);
    const key = `${namespace}/${name} ${audience}`;
    if (last.key !== key) {
      const options = [
        `--namespace=${namespace}`,
        `--audience=${audience}`,
        `--duration=${ID_TOKEN_SECONDS}s`,
      ];
      const advice = `\nTo check your rights: kubectl auth can-i create serviceaccounts/token --namespace ${namespace}`;
      // This command counts only the names before `--`. `readStack` has checked that this one is a name.
      const token = (await kubectl(["create", "token", name], options, [], { advice })).trim();
      const { iss } = decodeJwt(token);
      if (iss !== issuerUrl) {
        throw new Error(
          `The kubeconfig points to a different cluster: its issuer is ${iss}, but the stack's is ${issuerUrl}. No token was sent.\nCheck clusterName, aws:region, and the AWS account: aws sts get-caller-identity`,
        );
      }
      last = { key, token };
    }
    return defect === "invalid signature" ? withInvalidSignature(last.token) : last.token;
  };
}

/**
 * Compares the policies of a stack's issuer in Pulumi Cloud with those of the stack.
 *
 * https://www.pulumi.com/docs/reference/cloud-rest-api/oidc-issuers/
 *
 * @throws Error that names the missing right if the policies could not be read.
 */
export async function findChangedPolicies(
  stack: DeployedStack,
  accounts: ServiceAccount[],
  run: Run,
): Promise<Difference[]> {
  const path = (...segments: string[]) => ["/api/orgs", stack.organization, ...segments].join("/");
  // The CLI otherwise asks the backend of its current login, which can be another Pulumi Cloud.
  const environment = { PULUMI_BACKEND_URL: stack.pulumiCloudUrl };
  const get = async (endpoint: string, right: string) => {
    try {
      return JSON.parse(await run("pulumi", ["api", endpoint, "--non-interactive"], { environment }));
    } catch (error) {
      throw unreadable(error, stack, right);
    }
  };

  const { oidcIssuers = [] } = await get(path("oidc", "issuers"), "oidc_issuers:read");
  const registered = (oidcIssuers as { id: string; url: string }[]).filter(
    ({ url }) => url === stack.issuerUrl,
  );
  const isRegistered = registered.some(({ id }) => id === stack.issuerId);
  const [other] = registered.filter(({ id }) => id !== stack.issuerId);
  if (other) {
    const up = `pulumi up --refresh --stack ${shellQuoted(stack.name)}`;
    throw new Error(
      `Organization ${stack.organization} has the OIDC issuer ${stack.issuerUrl} under the ID ${other.id}, and the stack has ${stack.issuerId}: it was registered by hand. No token was sent.\nDelete it in Pulumi Cloud. To register the stack's: ${up}`,
    );
  }
  const endpoint = path("auth", "policies", "oidcissuers", stack.issuerId);
  const { policies = [] } = isRegistered ? await get(endpoint, "auth_policies:read") : {};
  return comparePolicies(policies as IssuerPolicy[], stack.policies, accounts);
}

/** Returns the error to report if `pulumi api` failed, with what it needs. */
function unreadable(error: unknown, { organization, pulumiCloudUrl }: DeployedStack, right: string): unknown {
  if (!(error instanceof ToolError)) return error;
  const { code = "", httpStatus, message } = envelopeOf(error.stderr);
  const failed = `Failed to read the policies of the OIDC issuer at ${pulumiCloudUrl}`;
  if (code.endsWith(".not_logged_in") || httpStatus === 401) {
    const login = `To sign in: pulumi login ${shellQuoted(pulumiCloudUrl)}`;
    return new Error(`${failed}: the Pulumi CLI is not signed in. No token was sent.\n${login}`);
  }
  if (httpStatus === 403) {
    return new Error(
      `${failed}: HTTP 403. No token was sent.\nThe check requires ${right} in organization ${organization}, which the role Admin contains.`,
    );
  }
  return new Error(`${failed}: ${message ?? error.message}. No token was sent.`);
}

/** Returns the error that `pulumi api` prints as JSON: pkg/cmd/pulumi/cloud/envelope.go in pulumi/pulumi. */
function envelopeOf(stderr: string): { code?: string; message?: string; httpStatus?: number } {
  for (const line of stderr.split("\n")) {
    if (!line.startsWith('{"error":')) continue;
    try {
      return JSON.parse(line).error;
    } catch {
      // Another line that begins the same way.
    }
  }
  return {};
}

/**
 * Returns text without what could be a token: `pul-` and 40 characters, or any word that is longer than the name of an IAM
 * role, which has at most 64 characters. Every character but line breaks is visible.
 */
export function redact(text: string): string {
  const redacted = text.replace(/pul-[\w-]{16,}|[\w-]{65,}/g, "[redacted]");
  return redacted.split("\n").map(visible).join("\n");
}
