// Who is granted a token: each service account of the stack asks for its own, and so does one of the same namespace without an entry.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { text } from "node:stream/consumers";
import { type AuthPolicy, type ClusterIssuer, exchange, startServer } from "./pulumiCloud";
import type { RegisteredAccount, Run } from "./runProgram";

/** A service account that no entry has. */
export const UNLISTED = "unlisted-service-account";

/** Why the token of an entry was denied to its service account, and to one without an entry; undefined if it was granted. */
export type Answers = { account: RegisteredAccount; denial?: string; unlistedDenial?: string };

/**
 * Asks for the token of each entry, by the exchange script of its ConfigMap. A terminal shows how many have asked.
 *
 * @param cluster signs the ID tokens.
 * @returns the answers in the order of the entries.
 * @throws Error with what an exchange script has printed that failed in another way.
 */
export async function askForTokens({ accounts, issuers }: Run, cluster: ClusterIssuer): Promise<Answers[]> {
  const tokensOfJobs = new Set<string>();
  /** Why each ID token was denied; undefined if it was granted what it asked for. */
  const denials = new Map<string, string | undefined>();
  const { origin, close } = await startServer(async (request) => {
    const form = new URLSearchParams(await text(request));
    const idToken = form.get("subject_token") ?? "";
    const registered = issuers.map(({ policies, ...issuer }) => {
      const known = policies?.map((policy) => withKnownRules(policy, tokensOfJobs.has(idToken)));
      return { ...issuer, keys: cluster.keys, policies: known };
    });
    const { status, body, denial } = await exchange(form, registered);
    denials.set(idToken, denial);
    return { status, body };
  });

  async function ask(account: RegisteredAccount, serviceAccount: string) {
    const { id, namespace, tokenAudience, files, jobName } = account;
    // Kubernetes adds five random characters to the name of the Job.
    const pod = jobName && `${jobName}-xxxxx`;
    const token = await cluster.token({ namespace, serviceAccount, pod }, String(tokenAudience));
    if (pod) tokensOfJobs.add(token);
    const failure = await runExchange({ ...files, token, apiUrl: origin });
    const denial = denials.get(token);
    if (failure === undefined || denial !== undefined) return denial;
    throw new Error(`The token exchange of ${id} failed. ${failure.replaceAll(origin, "Pulumi Cloud")}`);
  }

  const answers: Answers[] = [];
  const waiting = accounts.entries();
  async function askNext(): Promise<void> {
    for (const [index, account] of waiting) {
      const denial = await ask(account, account.name);
      answers[index] = { account, denial, unlistedDenial: await ask(account, UNLISTED) };
      const asked = Object.keys(answers).length;
      const progress = asked < accounts.length ? `Asked for ${asked} of ${accounts.length} tokens` : "";
      if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${progress}`);
    }
  }
  // A few at a time: each runs bash and curl.
  const askers = Array.from({ length: availableParallelism() + 1 }, askNext);
  await Promise.all(askers).finally(close);
  return answers;
}

/**
 * Returns whether only a real cluster knows the value of a claim, so that a rule on it is assumed to be met.
 *
 * @param hasJob whether a Job asks for the token, whose pods have its name.
 */
export function isOnlyKnownToCluster(path: string, hasJob: boolean): boolean {
  const claim = path.replaceAll('"', "");
  if (claim === "kubernetes.io.pod.name") return !hasJob;
  return /^(iss|kubernetes\.io\.(serviceaccount\.uid|(pod|node)\..*))$/.test(claim);
}

function withKnownRules(policy: AuthPolicy, hasJob: boolean): AuthPolicy {
  const known = Object.entries(policy.rules).filter(([path]) => !isOnlyKnownToCluster(path, hasJob));
  return { ...policy, rules: Object.fromEntries(known) };
}

const VOLUMES = mkdtempSync(join(tmpdir(), "volumes-"));
const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const { exitCode, pid } of running) if (exitCode === null) process.kill(-Number(pid), "SIGKILL");
  rmSync(VOLUMES, { recursive: true, force: true, maxRetries: 3 });
});

/**
 * Runs the exchange script around the command `true`, with these files in a directory that replaces the volume. Returns what it
 * prints if it fails.
 *
 * Anyone who reviews a change of a stack file runs `npm start`: nothing that the file says may become a command, a variable, or a
 * path on this machine.
 */
async function runExchange(files: Record<string, string>): Promise<string | undefined> {
  const volume = mkdtempSync(join(VOLUMES, "volume-"));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(volume, basename(name)), content);
  // By bash, since the temporary directory can have the mount option noexec.
  const child = spawn("bash", [join(volume, "exchange-token.sh"), "true"], {
    cwd: volume,
    env: { PATH: process.env.PATH },
    // A process group, which ends as a whole.
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  running.add(child);
  try {
    const [[exitCode], log] = await Promise.all([once(child, "close"), text(child.stderr)]);
    return exitCode === 0 ? undefined : log;
  } catch (error) {
    throw new Error(`Failed to start bash, which the exchange script needs: ${(error as Error).message}`);
  } finally {
    running.delete(child);
    rmSync(volume, { recursive: true });
  }
}
