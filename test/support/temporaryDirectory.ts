// Directories that exist for the time of a test, or of all tests of a suite or a file.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Creates a temporary directory, and removes it after its owner.
 *
 * @param owner a test, or `{ after }` of node:test for the suite or the file in which this is called.
 */
export function temporaryDirectory(owner: { after(remove: () => void): void }): string {
  const directory = mkdtempSync(join(tmpdir(), "test-"));
  owner.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
  return directory;
}
