// The GitHub side: who issues the workflows' ID tokens, and for which subjects.

import { execFile } from "node:child_process";
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
 * Returns the ID of the repository, which `gh` reads with its own login.
 *
 * @throws Error if the `sub` claims of its ID tokens do not begin with the configured prefix, or if `gh` fails.
 */
export async function readRepositoryId({ repository, subjectPrefix }: Settings): Promise<string> {
  const path = `repos/${repository}`;
  // https://docs.github.com/en/rest/actions/oidc
  const subject = `${path}/actions/oidc/customization/sub`;
  const prefix = await read(subject, `if .use_default then .sub_claim_prefix // "repo:${repository}" else "" end`);
  if (prefix === "") {
    throw new Error(
      `${repository} customizes the sub claim of its ID tokens. To use the default:\n\n` +
        `  gh api -X PUT ${subject} -F use_default=true\n`,
    );
  }
  if (prefix !== subjectPrefix) {
    throw new Error(
      `The sub claims of ${repository} begin with "${prefix}", not with "${subjectPrefix}":\n\n` +
        `  pulumi config set subjectPrefix '${prefix}'\n`,
    );
  }
  return read(path, ".id");
}

/**
 * Checks that only the main branch can deploy to the environment `production`. Otherwise, any branch could use the
 * identity that deploys.
 *
 * @throws Error if another branch or a tag can, or if `gh` fails.
 */
export async function checkEnvironment({ repository }: Settings): Promise<void> {
  const path = `repos/${repository}`;
  // https://docs.github.com/en/rest/deployments/environments and /branch-policies
  const production = '.environments[] | select(.name == "production")';
  const hasBranchList = `${production}.deployment_branch_policy.custom_branch_policies`;
  const names = '.branch_policies | map("\\(.type // "branch") \\(.name)") | join(", ")';
  const branches =
    (await read(`${path}/environments`, hasBranchList)) === "true" &&
    (await read(`${path}/environments/production/deployment-branch-policies`, names));
  if (branches !== "branch main") {
    throw new Error(
      `The production environment of ${repository} must allow only the main branch, but allows ` +
        `${branches || "every branch"}. To change it:\n\n  bash github.sh environment ${repository}\n`,
    );
  }
}

async function read(path: string, filter: string): Promise<string> {
  const options = ["api", path, "--paginate", "--jq", filter];
  const { stdout } = await promisify(execFile)("gh", options).catch((error: Error) => {
    throw new Error(`Failed to read ${path} with gh (check gh auth status): ${error.message}`);
  });
  return stdout.trim();
}
