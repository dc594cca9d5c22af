// The cluster of a component: kubectl with the kubeconfig of the component's own Kubernetes provider, or with one that the user names.

import { existsSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import type { DeployedComponent } from "./deployedComponent";
import { shellQuoted } from "./terminal";
import type { Run, RunOptions } from "./tools";
import { type Fields, valueAt } from "./values";

/** Runs kubectl with a command such as `get configmap`, its options, and the names that follow `--`. */
export type Kubectl = (
  command: string[],
  options: string[],
  names: string[],
  runOptions?: RunOptions,
) => Promise<string>;

/** The kubeconfigs that the user names, by the name of their component; undefined for every other component. */
export type NamedKubeconfigs = Map<string | undefined, string>;

/**
 * Reads the options of the command line about kubeconfigs.
 *
 * @param options `FILE`, or `COMPONENT=FILE`.
 * @param components the names of those in the program.
 * @throws Error that lists the components if an option names another one, or no file.
 */
export function readKubeconfigs(options: string[], components: string[]): NamedKubeconfigs {
  const named = options.map((option) => {
    const component = components.find((name) => option.startsWith(`${name}=`));
    const file = component === undefined ? option : option.slice(`${component}=`.length);
    // A directory can have a name with `=`.
    const isFile = component !== undefined || !/^[^/]*=/.test(option);
    if (isFile && file !== "") return [component, resolve(file)] as const;
    throw new Error(
      `--kubeconfig is ${JSON.stringify(option)}. It must be FILE or COMPONENT=FILE, with a component of the program: ${components.join(", ")}. No token was sent.`,
    );
  });
  return new Map(named);
}

/**
 * Returns kubectl for the cluster of a component. Never that of the user's current context, which can be any cluster.
 *
 * @param cwd the directory of the program.
 * @param directory for kubeconfigs and a cache.
 * @throws Error if there is no kubeconfig.
 */
export async function connect(
  { component: { name, after } }: Pick<DeployedComponent, "component">,
  kubeconfigs: NamedKubeconfigs,
  cwd: string,
  directory: string,
  run: Run,
): Promise<Kubectl> {
  // Several providers would be a finding.
  const [provider] = after.providers.get("kubernetes") ?? [];
  const kubernetes = provider?.inputs;
  const named = kubeconfigs.get(name) ?? kubeconfigs.get(undefined);
  const kubeconfig = named ?? (await ownKubeconfig(name, kubernetes, cwd, directory));
  const chosen = (["context", "cluster"] as const).flatMap((key) => {
    const value = valueAt(kubernetes, key);
    return typeof value === "string" ? `--${key}=${value}` : [];
  });
  const common = [
    `--kubeconfig=${kubeconfig}`,
    ...chosen,
    `--cache-dir=${join(directory, "cache")}`,
    "--request-timeout=20s",
  ];
  return (command, further, names, runOptions) =>
    run("kubectl", [...command, ...further, ...common, "--", ...names], runOptions);
}

/** Returns the file that the Kubernetes provider reads, or a new one with the content that the provider has. */
async function ownKubeconfig(
  component: string,
  kubernetes: Fields | undefined,
  cwd: string,
  directory: string,
): Promise<string> {
  const value = valueAt(kubernetes, "kubeconfig");
  if (typeof value !== "string" || value === "") {
    throw new Error(
      `The kubeconfig of PulumiCloudAccess "${component}" is secret or absent. No token was sent. To name it: --kubeconfig ${shellQuoted(component)}=FILE`,
    );
  }
  // A path, if there is such a file: provider/pkg/provider/util.go of pulumi/pulumi-kubernetes (parseKubeconfigString).
  const path = resolve(cwd, value.replace(/^~(?=\/|$)/, homedir()));
  if (!value.includes("\n") && existsSync(path)) return path;
  // Each component has its own: they can be in different clusters.
  const file = join(await mkdtemp(join(directory, "cluster-")), "kubeconfig");
  await writeFile(file, value, { mode: 0o600 });
  return file;
}
