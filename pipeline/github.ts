// The GitHub side: who issues the workflows' ID tokens, for which subjects, and whether the repository is ready for them.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Settings } from "./config";

/** The issuer of GitHub's ID tokens. GHE.com has a different one, and an enterprise can have its own. */
export const ISSUER_URL = "https://token.actions.githubusercontent.com";

/** Returns the `sub` claims of the workflows' ID tokens. */
export function subjects(prefix: string): { preview: string[]; deploy: string } {
  // preview.yml runs for pull requests, drift.yml for the branch main, and deploy.yml in the environment.
  return {
    preview: [`${prefix}:pull_request`, `${prefix}:ref:refs/heads/main`],
    deploy: `${prefix}:environment:production`,
  };
}

/**
 * Checks the repository with `github.sh check`, which changes nothing: only the main branch can deploy to the environment
 * `production`, which has the configured reviewers; no one can change `main` alone; and the `sub` claims of the
 * repository's ID tokens begin with the configured prefix.
 *
 * @returns the ID of the repository.
 * @throws Error that lists what is wrong, with the commands that fix it.
 */
export async function checkRepository({ repository, subjectPrefix, reviewers }: Settings): Promise<string> {
  const args = [join(__dirname, "github.sh"), "check", repository, subjectPrefix, ...reviewers];
  const { stdout } = await promisify(execFile)("bash", args).catch(({ stderr, message }) => {
    throw new Error(`Failed to check the repository ${repository} with gh:\n${stderr || message}`);
  });
  return stdout.trim();
}
