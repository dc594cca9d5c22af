// Who is granted a token: each service account of the stack asks for its own, and so does one of the same namespace without an entry.

import { availableParallelism } from "node:os";
import { text } from "node:stream/consumers";
import type { ClusterIssuer } from "./issuer";
import { runExchange } from "./pod";
import { type AuthPolicy, exchange, startServer } from "./pulumiCloud";
import type { RegisteredAccount, Run } from "./runProgram";

/** A service account that no entry has. */
export const UNLISTED = "unlisted-service-account";

/** The exit code of the exchange script for a denied exchange: scripts/exchange-token.sh. */
const DENIED = 77;

/** Why the token of an entry was denied; undefined if it was granted. */
export interface Answers {
  account: RegisteredAccount;
  denial: string | undefined;
  /** To the service account without an entry. */
  unlistedDenial: string | undefined;
}

/**
 * Asks for the token of each entry, by the exchange script of its ConfigMap. A terminal shows how many have asked.
 *
 * @param cluster signs the ID tokens.
 * @returns the answers in the order of the entries.
 * @throws Error with what an exchange script has printed that failed in another way.
 */
export async function askForTokens({ accounts, issuers }: Run, cluster: ClusterIssuer): Promise<Answers[]> {
  const registered = issuers.map(({ policies, ...issuer }) => {
    return { ...issuer, keys: cluster.keys, policies: policies?.map(withKnownRules) };
  });
  /** Why each ID token was denied; undefined if it was granted what it asked for. */
  const denials = new Map<string, string | undefined>();
  const { origin, close } = await startServer(async (request) => {
    const form = new URLSearchParams(await text(request));
    const { status, body, denial } = exchange(form, registered);
    denials.set(form.get("subject_token") ?? "", denial);
    return { status, body };
  });

  async function ask({ id, namespace, tokenAudience, files }: RegisteredAccount, serviceAccount: string) {
    const token = cluster.token({ namespace, serviceAccount }, String(tokenAudience));
    const { exitCode, log } = await runExchange(files, token, origin);
    const denial = denials.get(token);
    const expected = denial === undefined ? 0 : DENIED;
    if (denials.has(token) && exitCode === expected) return denial;
    throw new Error(`The token exchange of ${id} failed. ${log.replaceAll(origin, "Pulumi Cloud")}`);
  }

  const answers: Answers[] = [];
  let asked = 0;
  const waiting = accounts.entries();
  async function askNext(): Promise<void> {
    for (const [index, account] of waiting) {
      const denial = await ask(account, account.name);
      answers[index] = { account, denial, unlistedDenial: await ask(account, UNLISTED) };
      asked += 1;
      if (process.stderr.isTTY) process.stderr.write(`Asked for ${asked} of ${accounts.length} tokens\r`);
    }
  }
  // A few at a time: each runs bash and curl.
  const askers = Array.from({ length: availableParallelism() + 1 }, askNext);
  await Promise.all(askers).finally(close);
  if (process.stderr.isTTY) process.stderr.write("\u001b[K");
  return answers;
}

/** Returns whether only a real cluster knows the value of a claim, so that a rule on it is assumed to be met. */
export function isOnlyKnownToCluster(path: string): boolean {
  return /^(iss|kubernetes\.io\.(serviceaccount\.uid|(pod|node)\..*))$/.test(path.replaceAll('"', ""));
}

function withKnownRules(policy: AuthPolicy): AuthPolicy {
  const known = Object.entries(policy.rules).filter(([path]) => !isOnlyKnownToCluster(path));
  return { ...policy, rules: Object.fromEntries(known) };
}
