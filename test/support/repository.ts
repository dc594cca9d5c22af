// The repository of this project, as a user clones it.

import { join } from "node:path";
import { succeeded } from "./engineOutcome";
import { copyProject, ROOT } from "./project";
import type { Cli } from "./pulumiCli";

const PACKAGES = join(ROOT, "node_modules");

/**
 * A command that installs the packages of this checkout in the current directory, which npm takes half a minute for. npm
 * writes its list of them in place: it must not be the same file.
 */
export const LINK_PACKAGES = `
  rm -rf node_modules
  cp -al '${PACKAGES}' . 2>/dev/null || cp -a '${PACKAGES}' .
  rm node_modules/.package-lock.json
  cp '${PACKAGES}/.package-lock.json' node_modules/
`;

/** Commits what a clone contains to a new repository, and returns its directory. */
export async function createRepository(cli: Cli): Promise<string> {
  const repository = await copyProject(join(cli.directory, "repository"));
  const author = ["-c", "user.name=author", "-c", "user.email=author@example.com"];
  succeeded(await cli.run(repository, "git", "init", "--quiet"));
  succeeded(await cli.run(repository, "git", "add", "--all"));
  succeeded(await cli.run(repository, "git", ...author, "commit", "--quiet", "--message", "template"));
  return repository;
}
