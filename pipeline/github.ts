// GitHub's side: who issues the workflows' ID tokens, and for which subjects.

import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** The issuer of GitHub's ID tokens. GHE.com has a different one, and an enterprise can have its own. */
export const ISSUER_URL = "https://token.actions.githubusercontent.com";

export interface Repository {
  id: string;
  /** The `sub` claims of the workflows' ID tokens. */
  subjects: { preview: string[]; deploy: string };
}

/**
 * Reads the repository with the login of `gh`.
 *
 * @throws Error if a branch other than main can deploy to the environment `production`, if the `sub` claims are not the
 * default ones, or if `gh` fails.
 */
export async function readRepository(repository: string): Promise<Repository> {
  const path = `repos/${repository}`;
  const id = await read(path, ".id");

  // https://docs.github.com/en/rest/actions/oidc
  const subject = `${path}/actions/oidc/customization/sub`;
  const customized = `the sub claim is customized; to use the default: gh api -X PUT ${subject} -F use_default=true`;
  const prefixOrError = `if .use_default then .sub_claim_prefix // "repo:${repository}" else error("${customized}") end`;
  const prefix = await read(subject, prefixOrError);

  // https://docs.github.com/en/rest/deployments/environments and /branch-policies
  const production = '.environments[] | select(.name == "production")';
  const hasBranchList = `${production}.deployment_branch_policy.custom_branch_policies`;
  const names = '.branch_policies | map("\\(.type // "branch") \\(.name)") | join(", ")';
  const branches =
    (await read(`${path}/environments`, hasBranchList)) === "true" &&
    (await read(`${path}/environments/production/deployment-branch-policies`, names));
  if (branches !== "branch main") {
    throw new Error(
      `The environment production of ${repository} must allow only the branch main, but allows ` +
        `${branches || "every branch"}. To change it:\n\n  bash github.sh environment ${repository}\n`,
    );
  }

  return {
    id,
    // preview.yml runs for pull requests, drift.yml for the branch main, and deploy.yml in the environment.
    subjects: {
      preview: [`${prefix}:pull_request`, `${prefix}:ref:refs/heads/main`],
      deploy: `${prefix}:environment:production`,
    },
  };
}

async function read(path: string, filter: string): Promise<string> {
  const { stdout } = await promisify(execFile)("gh", ["api", path, "--paginate", "--jq", filter]);
  return stdout.trim();
}
