// Who is granted a token: each service account of the stack asks for its own, and so does one of the same namespace without an entry.

import { availableParallelism } from "node:os";
import { text } from "node:stream/consumers";
import { runExchange } from "./pod";
import { type ClusterIssuer, exchange, startServer } from "./pulumiCloud";
import type { RegisteredAccount, Run } from "./runProgram";

/** A service account that no entry has. */
export const UNLISTED = "unlisted-service-account";

/** The exit code of the exchange script for a denied exchange: scripts/exchange-token.sh. */
const DENIED = 77;

/** What came of asking for a token: why it was denied, or what the exchange script printed when it failed. */
export interface Answer {
  result: "granted" | "denied" | "failed";
  why: string[];
}

/** The answers for the token of one entry. */
export interface Answers {
  account: RegisteredAccount;
  own: Answer;
  unlisted: Answer;
}

/**
 * Asks for the token of each entry, by the exchange script of its ConfigMap.
 *
 * @param cluster signs the ID tokens.
 * @param onProgress is called with the number of entries that have asked.
 * @returns the answers in the order of the entries.
 */
export async function askForTokens(
  { accounts, issuer }: Run,
  cluster: ClusterIssuer,
  onProgress: (asked: number) => void,
): Promise<Answers[]> {
  /** Why each ID token was denied; undefined if it was granted what it asked for. */
  const denials = new Map<string, string | undefined>();
  const { origin, close } = await startServer(async (request) => {
    const form = new URLSearchParams(await text(request));
    const issuerOf = (organization: string, url = "") => {
      return organization === issuer.organization && url === cluster.url
        ? { ...issuer, ...cluster }
        : undefined;
    };
    const { status, body, denial } = await exchange(form, issuerOf, { isAssumed: isOnlyKnownToCluster });
    denials.set(form.get("subject_token") ?? "", denial);
    return { status, body };
  });

  async function ask(
    { namespace, tokenAudience, files }: RegisteredAccount,
    serviceAccount: string,
  ): Promise<Answer> {
    const token = await cluster.token({ namespace, serviceAccount }, String(tokenAudience));
    const { exitCode, log } = await runExchange(files, token, origin);
    const denial = denials.get(token);
    if (exitCode === DENIED && denial) return { result: "denied", why: [denial] };
    if (exitCode === 0 && denials.has(token) && !denial) return { result: "granted", why: [] };
    return { result: "failed", why: log.map((line) => line.replaceAll(origin, "Pulumi Cloud")) };
  }

  const answers: Answers[] = [];
  const waiting = [...accounts.entries()];
  async function askNext(): Promise<void> {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [index, account] = next;
      answers[index] = {
        account,
        own: await ask(account, account.name),
        unlisted: await ask(account, UNLISTED),
      };
      onProgress(Object.keys(answers).length);
    }
  }
  // A few at a time: each runs bash and curl.
  const askers = Array.from({ length: availableParallelism() + 1 }, askNext);
  await Promise.all(askers).finally(close);
  return answers;
}

/** Returns whether only a real cluster knows the value of a claim, so that a rule on it is assumed to be met. */
export function isOnlyKnownToCluster(path: string): boolean {
  return /^(iss|kubernetes\.io\.(serviceaccount\.uid|(pod|node)\..*))$/.test(path.replaceAll('"', ""));
}
