// `npm start -- --live`: asks the questions of the access check of the real cluster, AWS, and Pulumi Cloud. It shares
// nothing with the emulators.

import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { decodeJwt } from "jose";
import {
  type Answer,
  audienceOf,
  checkAccess,
  idOf,
  liveQuestions,
  type Question,
  type Row,
  readServiceAccounts,
  type ServiceAccount,
  unexpected,
  withInvalidSignature,
} from "./questions";
import { accessLines } from "./report";
import { paint, print, wrap } from "./terminal";
import { assumeRole, requestAccessToken } from "./tokenExchange";

// In seconds. The first is the shortest that Kubernetes grants; Pulumi Cloud documents no lower bound.
const ID_TOKEN_SECONDS = 600;
const ACCESS_TOKEN_SECONDS = 60;

const REQUEST_SECONDS = 10;
const TOOL_SECONDS = 60;

const NOTES = [
  "It requests ID tokens (10 minutes), access tokens (1 minute), and AWS credentials (15 minutes). They stay in memory and are never used.",
  "The audit logs of the cluster, AWS CloudTrail, and Pulumi Cloud will show the requests and the denials.",
  "It requires the right to create serviceaccounts/token, which lets you act as the service accounts. Do not run it in a pull request's workflow.",
];

const TOOLS = {
  aws: "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
  kubectl: "https://kubernetes.io/docs/tasks/tools/",
  pulumi: "https://www.pulumi.com/docs/install/",
};

/** Runs a program and returns its standard output. `advice` ends the message of a failure. */
type Run = (tool: keyof typeof TOOLS, args: string[], advice?: string) => Promise<string>;
type Kubectl = (args: string[], advice?: string) => Promise<string>;

export interface LiveCheckOptions {
  /** The name of the stack. */
  stack: string;
  /** Prints every answer with its reason. */
  verbose: boolean;
  /** Asks as every other service account of the stack, not only as the next one. */
  allPairs: boolean;
}

/** What the check needs to know about a stack that is up. */
interface Stack {
  issuerUrl: string;
  serviceAccounts: Parameters<typeof readServiceAccounts>[0];
  policies: Parameters<typeof readServiceAccounts>[2];
  clusterName: string;
  pulumiCloudUrl: string;
  stsUrl: string;
  /** The AWS provider's region, profile, and role, as options of the AWS CLI. */
  awsOptions: string[];
}

/**
 * Checks the access of every service account of a stack that is up, and prints the result.
 *
 * @returns the exit code: 0 if every answer is the intended one, 1 if one is not, 2 if the services could not be asked.
 */
export async function checkLiveAccess({ stack: name, verbose, allPairs }: LiveCheckOptions): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop.abort());
  // The reader may stop reading: `npm start -- --live | head`.
  process.stdout.on("error", () => stop.abort());
  // Tokens are sent to verified services only.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = "1";

  const directory = await mkdtemp(join(tmpdir(), "live-check-"));
  try {
    print(paint("bold", `Live access check of stack ${name}: nothing is created or changed.`), "");
    for (const note of NOTES) print(...wrap(note, 2, 2));
    const run = toolRunner(stop.signal);
    const stack = await readStack(name, run);
    const kubectl = await connect(stack, directory, run);
    const questions = liveQuestions(await readAccounts(stack, kubectl), allPairs);
    const callers = questions.filter(({ service }) => service === "Pulumi Cloud").length;
    print("", `  Asking as ${callers} callers, one at a time.`);

    const rows = await checkAccess(questions, askServices(stack, kubectl, stop.signal));
    print("", paint("bold", "Access check"), ...accessLines(rows, verbose));
    const isExpected = unexpected(rows).length === 0;
    const advice = `To see what was changed by hand: pulumi preview --refresh --diff --stack ${name}`;
    if (!isExpected) print(...wrap(advice, 2));
    print("", paint("bold", "Answers that the documentation leaves open"));
    for (const line of openAnswers(rows)) print(...wrap(line, 2));
    return isExpected ? 0 : 1;
  } catch (error) {
    if (stop.signal.aborted) return 130;
    for (const text of redact(String(error instanceof Error ? error.message : error)).split("\n")) {
      for (const line of wrap(text, 0)) console.error(paint("red", line, process.stderr));
    }
    return 2;
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** Returns the function that asks Pulumi Cloud and AWS STS. */
function askServices(
  { pulumiCloudUrl, stsUrl, issuerUrl }: Stack,
  kubectl: Kubectl,
  stop: AbortSignal,
): (question: Question) => Promise<Answer> {
  // Questions that follow each other often require the same token.
  let last = { key: "", token: "" };

  async function idToken(question: Question): Promise<string> {
    const { namespace, name, defect } = question.caller;
    const audience = audienceOf(question);
    const key = `${namespace}/${name} ${audience}`;
    if (last.key !== key) {
      const options = [`--namespace=${namespace}`, `--audience=${audience}`, `--duration=${ID_TOKEN_SECONDS}s`];
      const advice = `\nTo check your rights: kubectl auth can-i create serviceaccounts/token --namespace ${namespace}`;
      const token = (await kubectl(["create", "token", name, ...options], advice)).trim();
      const { iss } = decodeJwt(token);
      if (iss !== issuerUrl) {
        throw new Error(
          `The kubeconfig points to a different cluster: its issuer is ${iss}, but the stack's is ${issuerUrl}. No token was sent.\nCheck clusterName, aws:region, and the AWS account: aws sts get-caller-identity`,
        );
      }
      last = { key, token };
    }
    return defect === "invalid signature" ? withInvalidSignature(last.token) : last.token;
  }

  return async (question) => {
    const { account, service } = question;
    const token = await idToken(question);
    // Used below, too: Node.js collects a signal to which nothing refers, and it then never aborts.
    const timeout = AbortSignal.timeout(REQUEST_SECONDS * 1000);
    const signal = AbortSignal.any([stop, timeout]);
    const isRole = service === "IAM role";
    const shortest = { ...account.environment, PULUMI_TOKEN_EXPIRATION: String(ACCESS_TOKEN_SECONDS) };
    try {
      const answer = isRole
        ? await assumeRole(stsUrl, account.roleArn ?? "", token, signal)
        : await requestAccessToken(pulumiCloudUrl, shortest, token, signal);
      return { ...answer, reason: redact(answer.reason) };
    } catch (error) {
      const { message, cause } = error as Error & { cause?: Error & { code?: string } };
      // Node.js also limits the time for a connection to 10 seconds.
      const isLate = timeout.aborted || cause?.code === "UND_ERR_CONNECT_TIMEOUT";
      const reason = isLate ? `no answer within ${REQUEST_SECONDS} s` : (cause?.code ?? cause?.message ?? message);
      const asked = isRole ? `AWS STS at ${stsUrl}` : `Pulumi Cloud at ${pulumiCloudUrl}`;
      throw new Error(`Failed to ask ${asked}: ${reason}. The check is incomplete; run it again.`);
    }
  };
}

/** Answers what the documentation leaves open. */
function openAnswers(rows: Row[]): string[] {
  const asked = rows.filter(({ account, service }) => account.audienceRule && service === "Pulumi Cloud");
  const isAllowed = (account: ServiceAccount, label: string) =>
    asked.some((row) => row.account === account && row.caller.label === label && row.allowed);
  const match = asked.find(({ account }) => isAllowed(account, "itself") && !isAllowed(account, "other audience"));
  const audience = match
    ? `Yes: ${idOf(match.account)} was allowed, and denied with another audience.`
    : asked.length > 0
      ? "Unknown. If only service accounts with such a rule were denied, the answer is probably no. To verify, set audienceRule to false, run `pulumi up`, and check again."
      : "Not asked: no service account of this stack has a rule on aud.";
  const examples = new Map(rows.toReversed().flatMap(({ form, reason }) => (form ? [[form, reason]] : [])));
  return [
    `Does a rule on aud match an element of a list? ${audience}`,
    ...[...examples].map(([form, example]) => `How does Pulumi Cloud deny? ${form}, such as: ${example}`),
  ];
}

async function readStack(name: string, run: Run): Promise<Stack> {
  const pulumi = async (...args: string[]) =>
    JSON.parse(await run("pulumi", [...args, "--stack", name, "--non-interactive"]));
  const config: Record<string, { value?: string }> = await pulumi("config", "--json");
  const { issuerUrl, serviceAccounts } = await pulumi("stack", "output", "--json");
  const { deployment } = await pulumi("stack", "export");
  const resources: { type: string; urn: string; inputs: Pick<Stack, "policies"> }[] = deployment.resources ?? [];
  const issuer = resources.find(({ type }) => type === "pulumiservice:index:OidcIssuer");
  if (!issuer || !issuerUrl || Object.keys(serviceAccounts ?? {}).length === 0) {
    throw new Error(`Stack "${name}" is not deployed. To deploy it: pulumi up --stack ${name}`);
  }
  const project = issuer.urn.split("::")[1];
  const clusterName = config[`${project}:clusterName`]?.value ?? "";
  const pulumiCloudUrl = new URL(config[`${project}:pulumiApiUrl`]?.value || "https://api.pulumi.com").origin;

  const aws = (key: string) => config[`aws:${key}`]?.value;
  const region = aws("region") ?? process.env.AWS_REGION ?? process.env.AWS_DEFAULT_REGION;
  if (!region) throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION --stack ${name}`);
  const suffix = region.startsWith("cn-") ? ".cn" : "";
  const stsUrl = process.env.AWS_ENDPOINT_URL_STS ?? `https://sts.${region}.amazonaws.com${suffix}`;
  if (!stsUrl.startsWith("https://")) {
    throw new Error(`AWS_ENDPOINT_URL_STS is ${stsUrl}. Set it to an https URL: ID tokens are sent there.`);
  }
  const role = JSON.parse(aws("assumeRoles") ?? "[]")[0]?.roleArn;
  const options = { region, profile: aws("profile"), "role-arn": role, "assume-role-arn": role };
  const awsOptions = Object.entries(options).flatMap(([option, value]) => (value ? [`--${option}=${value}`] : []));
  const { policies } = issuer.inputs;
  return { issuerUrl, serviceAccounts, policies, clusterName, pulumiCloudUrl, stsUrl, awsOptions };
}

/** Returns kubectl for the cluster of a stack, by a kubeconfig and a cache in a directory. */
async function connect({ clusterName, awsOptions }: Stack, directory: string, run: Run): Promise<Kubectl> {
  const kubeconfig = `--kubeconfig=${join(directory, "kubeconfig")}`;
  await run("aws", ["eks", "update-kubeconfig", `--name=${clusterName}`, kubeconfig, ...awsOptions]);
  const options = [kubeconfig, `--cache-dir=${join(directory, "cache")}`, "--request-timeout=20s"];
  return (args, advice) => run("kubectl", [...args, ...options], advice);
}

async function readAccounts(stack: Stack, kubectl: Kubectl): Promise<ServiceAccount[]> {
  const configMap = async (namespace: string, name: string) =>
    JSON.parse(await kubectl(["get", "configmap", name, `--namespace=${namespace}`, "--output=json"])).data;
  const accounts = await readServiceAccounts(stack.serviceAccounts, configMap, stack.policies);
  // Anyone who can change a ConfigMap could otherwise have the tokens of other service accounts sent anywhere.
  for (const account of accounts) {
    const url = account.environment.PULUMI_BACKEND_URL;
    if (url === stack.pulumiCloudUrl) continue;
    throw new Error(
      `The ConfigMap of ${idOf(account)} names ${url} instead of ${stack.pulumiCloudUrl}. No token was sent.\nTo restore it: pulumi up --refresh`,
    );
  }
  return accounts;
}

function toolRunner(stop: AbortSignal): Run {
  return async (tool, args, advice = "") => {
    const timeout = AbortSignal.timeout(TOOL_SECONDS * 1000);
    const signal = AbortSignal.any([stop, timeout]);
    const options = { cwd: join(__dirname, "..", ".."), signal, maxBuffer: 2 ** 28 };
    try {
      return (await promisify(execFile)(tool, args, options)).stdout;
    } catch (error) {
      const { stderr, code, message } = error as Error & { stderr?: string; code?: unknown };
      if (code === "ENOENT") throw new Error(`${tool} is not on PATH. To install it: ${TOOLS[tool]}`);
      const firstOption = args.findIndex((arg) => arg.startsWith("--"));
      const reason = timeout.aborted ? `no answer within ${TOOL_SECONDS} s` : stderr?.trim() || message;
      throw new Error(`Failed to run ${[tool, ...args.slice(0, firstOption)].join(" ")}: ${reason}${advice}`);
    }
  };
}

// An answer could repeat a token. The name of a role has at most 64 characters.
function redact(text: string): string {
  return text.replace(/[\w-]{65,}/g, "[redacted]").replace(/[^\n -~]/g, "?");
}
