// Asks AWS STS for a role, with the AWS CLI. It knows the endpoint of every region, and verifies its certificate.

import type { AwsSettings } from "./awsSettings";
import type { Answer } from "./questions";
import { type Run, ToolError } from "./tools";

// In seconds. The shortest that AWS grants.
const CREDENTIALS_SECONDS = 900;

/** The limits for a connection and for an answer, and the one for the whole command, whose start takes seconds, too. */
const REQUEST_SECONDS = 10;
const COMMAND_SECONDS = 30;

const SESSION_NAME = "live-access-check";

/**
 * Requests credentials of a role with an ID token, once and without a signature, as a pod does.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
 *
 * The token is the command's standard input. Of the answer, the command prints the name of the session, not the credentials.
 *
 * @returns whether the role's trust policy allows it; for a denial the reason is the error code and its message.
 * @throws Error with the reason if STS does not decide, such as when it limits the rate.
 */
export async function assumeRole(
  { region, stsUrl }: AwsSettings,
  roleArn: string,
  idToken: string,
  run: Run,
): Promise<Answer> {
  const args = [
    `--role-arn=${roleArn}`,
    `--role-session-name=${SESSION_NAME}`,
    `--duration-seconds=${CREDENTIALS_SECONDS}`,
    "--web-identity-token=file:///dev/stdin",
    "--no-sign-request",
    `--region=${region}`,
    ...(stsUrl ? [`--endpoint-url=${stsUrl}`] : []),
    `--cli-connect-timeout=${REQUEST_SECONDS}`,
    `--cli-read-timeout=${REQUEST_SECONDS}`,
    "--query=AssumedRoleUser.Arn",
    "--output=text",
  ];
  const options = { input: idToken, seconds: COMMAND_SECONDS, environment: environmentOfSts() };
  try {
    const session = await run("aws", ["sts", "assume-role-with-web-identity", ...args], options);
    if (session.trim().endsWith(`/${SESSION_NAME}`)) return { allowed: true, reason: "granted" };
  } catch (error) {
    if (error instanceof ToolError) return denialOf(error);
    throw error;
  }
  throw new Error("the answer contains no session of the role");
}

/**
 * Returns the changes of the environment for the command: nothing of the user's configuration applies but the certificate
 * authorities. It could name another endpoint, or record requests and answers (`cli_history`).
 */
function environmentOfSts(): Record<string, string | undefined> {
  const names = Object.keys(process.env).filter((name) => /^AWS_(?!CA_BUNDLE$)/.test(name));
  return {
    ...Object.fromEntries(names.map((name) => [name, undefined])),
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    // The default of older versions is the global endpoint.
    AWS_STS_REGIONAL_ENDPOINTS: "regional",
    AWS_MAX_ATTEMPTS: "1",
  };
}

/** What the command prints on standard error if AWS STS answers with an error. */
const STS_ERROR =
  /An error occurred \((\w+)\) when calling the AssumeRoleWithWebIdentity operation(?: \([^)]*\))?: (.*)/;

/** Returns the denial that the command has printed. @throws Error with its reason if it has failed otherwise. */
function denialOf({ stderr, message }: ToolError): Answer {
  const [, code, text = ""] = STS_ERROR.exec(stderr) ?? [];
  if (code === undefined) {
    // An answer that is not XML follows below the first line, and can contain credentials.
    const [firstLine] = stderr.split("\n").filter(Boolean);
    // Version 2 of the AWS CLI begins each error so.
    throw new Error(firstLine?.replace("aws: [ERROR]: ", "") ?? message);
  }
  const reason = `${code}: ${text}`;
  // "Couldn't retrieve verification key from your identity provider": STS could not decide, and says InvalidIdentityToken.
  const isUndecided = text.includes("verification key");
  const isDenial = ["AccessDenied", "IDPRejectedClaim", "InvalidIdentityToken"].includes(code);
  if (!isDenial || isUndecided) throw new Error(reason);
  return { allowed: false, reason };
}
