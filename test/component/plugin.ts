// The package of component/ as programs in other processes use it: served by Pulumi's SDK, and called through an SDK.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import type { TestContext } from "node:test";
import { ROOT } from "../support/project";

/**
 * Starts the package as the Pulumi CLI's language host does: in the directory of the program that uses it, whose
 * tsconfig.json counts. The language host that `.ci/pulumi-cli` builds cannot do so. The test fails if the package prints a
 * message about its arguments itself.
 *
 * @param directory of the program.
 * @param root of the repository that contains the package.
 * @returns the package for `PULUMI_DEBUG_PROVIDERS`.
 */
export async function startPackage(t: TestContext, directory: string, root = ROOT): Promise<string> {
  const { PATH, NODE_EXTRA_CA_CERTS, NODE_OPTIONS, PULUMI_CREDENTIALS_PATH } = process.env;
  const program = join(root, "node_modules", "@pulumi", "pulumi", "cmd", "run-plugin");
  const plugin = spawn(process.execPath, [program, join(root, "component")], {
    cwd: directory,
    env: { PATH, NODE_EXTRA_CA_CERTS, NODE_OPTIONS, PULUMI_CREDENTIALS_PATH, HOME: homedir() },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stderr = text(plugin.stderr);
  t.after(async () => {
    plugin.kill();
    // A message that the package prints once more is here, and only sometimes on the screen.
    assert.doesNotMatch(await stderr, /Invalid arguments/);
  });
  const lines = createInterface(plugin.stdout);
  const [port] = await Promise.race([once(lines, "line"), once(lines, "close")]);
  if (!port) assert.fail(`The package has ended: ${await stderr}`);
  return `eks-pulumi-oidc:${port}`;
}

// What Pulumi generates for TypeScript, reduced to what every SDK does: it registers a remote component.
const SDK = `
const pulumi = require("@pulumi/pulumi");

exports.PulumiCloudAccess = class extends pulumi.ComponentResource {
  constructor(name, args, options) {
    const inputs = { ...args, oidcIssuerId: undefined };
    super("eks-pulumi-oidc:index:PulumiCloudAccess", name, inputs, { version: "0.0.0", ...options }, true);
  }
};
`;

/** Gives a program the packages of this project, the SDK of the component, and further packages of @pulumi with their code. */
export async function installSdks(directory: string, further: Record<string, string>): Promise<void> {
  const modules = join(directory, "node_modules");
  const install = async (name: string, code: string) => {
    await mkdir(join(modules, name), { recursive: true });
    await writeFile(join(modules, name, "index.js"), code);
  };
  await install("@OWNER/eks-pulumi-oidc", SDK);
  for (const [name, code] of Object.entries(further)) await install(`@pulumi/${name}`, code);
  await mkdir(join(modules, "@pulumi"), { recursive: true });
  for (const name of await readdir(join(ROOT, "node_modules", "@pulumi"))) {
    await symlink(join(ROOT, "node_modules", "@pulumi", name), join(modules, "@pulumi", name));
  }
}
