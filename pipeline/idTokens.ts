// The ID tokens of the workflows: who issues them, and which of them are trusted.

/** The issuer of GitHub's ID tokens. GHE.com has a different one, and an enterprise can have its own. */
export const ISSUER_URL = "https://token.actions.githubusercontent.com";

/** Returns the `sub` claims of the workflows' ID tokens: preview.yml runs for pull requests, drift.yml for the branch main. */
export function subjects(prefix: string): string[] {
  return [`${prefix}:pull_request`, `${prefix}:ref:refs/heads/main`];
}
