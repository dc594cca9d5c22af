// Drives the Pulumi CLI, with a separate state and home in a temporary directory.

import { spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { ended, missingProgram } from "../support/programs";
import { copyProject, linkPackages } from "../support/project";
import { ACCESS_TOKEN } from "../support/script";

export interface Outcome {
  exitCode: number | null;
  stdout: string;
  /** Standard output, then standard error. */
  screen: string;
}

export type Cli = ReturnType<typeof openCli>;

export const missingCli = missingProgram("pulumi", "https://www.pulumi.com/docs/install/");

/** Returns the path of a program on PATH. */
export function pathOf(program: string): string {
  return spawnSync("bash", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim();
}

/**
 * Creates a file-backed state without a stack, in a directory that the CLI of the process's next test has again once this
 * one is removed: ts-node caches what it compiles by its path.
 *
 * @param debugProviders PULUMI_DEBUG_PROVIDERS: the providers that run already.
 * @param further variables for the environment of the CLI.
 */
export function openCli(debugProviders: string, further: Record<string, string> = {}) {
  let number = 0;
  while (existsSync(join(directoryOfProcess(), String(number)))) number += 1;
  const directory = join(directoryOfProcess(), String(number));
  const state = join(directory, "state");
  mkdirSync(state, { recursive: true });
  const issuerCertificate = createIssuerCertificate(directory);
  // Nothing else of the environment: a profile or a backend of the user's would change the results.
  // The old language host of .ci/pulumi-cli does not receive the `nodeargs` of Pulumi.yaml, which would set TS_NODE_CACHE_DIRECTORY.
  const { PATH, TS_NODE_CACHE_DIRECTORY } = process.env;
  const environment: NodeJS.ProcessEnv = {
    PATH,
    TS_NODE_CACHE_DIRECTORY,
    npm_config_cache: process.env.npm_config_cache ?? join(homedir(), ".npm"),
    npm_config_prefer_offline: "true",
    npm_config_audit: "false",
    HOME: directory,
    TMPDIR: tmpdir(),
    PULUMI_HOME: join(directory, "home"),
    PULUMI_ACCESS_TOKEN: ACCESS_TOKEN,
    PULUMI_BACKEND_URL: `file://${state}`,
    PULUMI_CONFIG_PASSPHRASE: "passphrase",
    PULUMI_DEBUG_PROVIDERS: debugProviders,
    PULUMI_NODEJS_TRANSPILE_ONLY: "true",
    PULUMI_SKIP_UPDATE_CHECK: "true",
    ...issuerCertificate.environment,
    ...further,
  };

  /** Runs a program in the environment of the CLI. */
  async function run(cwd: string, program: string, ...args: string[]): Promise<Outcome> {
    const child = spawn(program, args, { cwd, env: environment, stdio: ["ignore", "pipe", "pipe"] });
    const { exitCode, stdout, stderr } = await ended(child);
    return { exitCode, stdout, screen: stdout + stderr };
  }
  return {
    /** Temporary: state, home and projects are in it. */
    directory,
    environment,
    /** What programs read as the certificate of an issuer. */
    issuerCertificate,
    run,
    /** Runs `pulumi` in the directory of a project, such as `pulumi(directory, "up", "--yes")`. */
    pulumi: (cwd: string, ...args: string[]) =>
      run(cwd, "pulumi", "--non-interactive", "--color", "never", ...args),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** Creates what programs read as the certificate of an issuer: only its fingerprint, which is in a file. */
function createIssuerCertificate(directory: string) {
  const file = join(directory, "issuer-fingerprint");
  const renew = () => writeFileSync(file, randomBytes(32).toString("hex"));
  renew();
  const replacement = JSON.stringify(join(__dirname, "issuerCertificate.cjs"));
  return {
    environment: { ISSUER_FINGERPRINT: file, NODE_OPTIONS: `--require=${replacement}` },
    /** Returns its thumbprint: SHA-256, in lowercase hex. */
    thumbprint: () => readFileSync(file, "utf8"),
    /** Replaces it with another one. */
    renew,
  };
}

let ofProcess: string | undefined;

/** Returns a directory that is gone when this process ends. */
function directoryOfProcess(): string {
  if (ofProcess) return ofProcess;
  const directory = mkdtempSync(join(tmpdir(), "pulumi-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
  ofProcess = directory;
  return directory;
}

/**
 * Copies the program without what it must not need, and creates a stack.
 *
 * @param config the settings of the stack; bare keys are the project's.
 * @param leftOut the paths that it must not need.
 * @returns the project's directory.
 */
export async function createProject(
  cli: Cli,
  config: Record<string, unknown>,
  leftOut = ["simulator", "test", ".ci", ".github", "pipeline"],
): Promise<string> {
  const directory = await copyProject(join(cli.directory, "project"), leftOut);
  await linkPackages(directory);
  await writeFile(join(directory, "Pulumi.dev.yaml"), stringify({ config }));
  await cli.pulumi(directory, "stack", "init", "dev");
  return directory;
}
