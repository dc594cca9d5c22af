// What GitHub reports of the repository, read by `gh` with its own login.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { invalidConfiguration, type Problem } from "../problems";
import type { Settings } from "./config";

/** Returns the subjects of the ID tokens that the workflows get. */
export function subjects(prefix: string): { preview: string[]; deploy: string } {
  // preview.yml runs for pull requests, drift.yml for the branch main, and deploy.yml in the environment.
  return {
    preview: [`${prefix}:pull_request`, `${prefix}:ref:refs/heads/main`],
    deploy: `${prefix}:environment:production`,
  };
}

/**
 * Checks that GitHub lets only the branch main into the environment production. Otherwise any branch could get the
 * identities that deploy.
 *
 * @returns the repository's ID, and the problems that have to stop the program.
 * @throws pulumi.RunError when GitHub cannot be read.
 */
export async function checkRepository({
  repository,
  subjectPrefix,
}: Pick<Settings, "repository" | "subjectPrefix">): Promise<{ id: string; problems: Problem[] }> {
  const path = `repos/${repository}`;
  const [id, prefix, restricted] = await Promise.all([
    read(path, ".id"),
    // https://docs.github.com/en/rest/actions/oidc
    read(
      `${path}/actions/oidc/customization/sub`,
      `if .use_default then .sub_claim_prefix // "repo:${repository}" else "" end`,
    ),
    // https://docs.github.com/en/rest/deployments/environments
    read(
      `${path}/environments?per_page=100`,
      '.environments[] | select(.name == "production") | .deployment_branch_policy.custom_branch_policies',
    ),
  ]);
  // https://docs.github.com/en/rest/deployments/branch-policies
  const branches =
    restricted === "true" &&
    (await read(
      `${path}/environments/production/deployment-branch-policies`,
      '.branch_policies | map("\\(.type // "branch") \\(.name)") | join(", ")',
    ));

  const problems: Problem[] = [];
  if (prefix === "") {
    problems.push({
      setting: `repository ${repository}`,
      reason: "customizes the subject of its ID tokens, which then match no policy",
      fix: `gh api -X PUT ${path}/actions/oidc/customization/sub -F use_default=true`,
    });
  } else if (prefix !== subjectPrefix) {
    problems.push({
      setting: `subjectPrefix = "${subjectPrefix}"`,
      reason: "is not the prefix that GitHub reports",
      fix: `pulumi config set subjectPrefix '${prefix}'`,
    });
  }
  if (branches !== "branch main") {
    problems.push({
      setting: `environment production of ${repository}`,
      reason: `must allow the branch main only, but ${branches ? `allows ${branches}` : "has no list of branches"}`,
      fix: `bash github.sh environment ${repository}`,
    });
  }
  return { id, problems };
}

async function read(path: string, jq: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)("gh", ["api", path, "--jq", jq]);
    return stdout.trim();
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    const reason = `failed to read with gh: ${stderr?.trim() || message}`;
    throw invalidConfiguration([{ setting: path, reason, fix: "gh auth status" }]);
  }
}
