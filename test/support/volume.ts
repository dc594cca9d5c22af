// The volume of a pod, as the kubelet writes it.

import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

/** What is in a volume: contents by file name. A link leads elsewhere; undefined: the file does not exist. */
export type Files = Record<string, string | Buffer | { link: string } | undefined>;

export interface Volume {
  /** Replaces all files at once, as the kubelet does: those of the last time, with these changes. */
  replace(changes: Files): void;
}

/**
 * Creates a volume in the layout of the kubelet: every file is a link into the directory `..data`, which is a link too.
 * https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/volume/util/atomic_writer.go
 */
export function createVolume(directory: string, files: Files): Volume {
  const path = (name: string) => join(directory, name);
  let current: Files = {};
  let currentVersion = "";

  // Synchronous: a process that starts meanwhile would inherit an open file, and the script could not be executed.
  const replace = (changes: Files) => {
    const next = { ...current, ...changes };
    const version = mkdtempSync(path("..2030_01_31_"));
    chmodSync(version, 0o755);
    for (const [name, content] of Object.entries(next)) {
      if (content === undefined) continue;
      if (typeof content === "string" || Buffer.isBuffer(content)) {
        writeFileSync(join(version, name), content, { mode: 0o555 });
      } else {
        symlinkSync(content.link, join(version, name));
      }
      if (current[name] === undefined) symlinkSync(`..data/${name}`, path(name));
    }
    symlinkSync(basename(version), path("..data_tmp"));
    renameSync(path("..data_tmp"), path("..data"));
    if (currentVersion) rmSync(currentVersion, { recursive: true });
    current = next;
    currentVersion = version;
  };
  mkdirSync(directory);
  replace(files);
  return { replace };
}
