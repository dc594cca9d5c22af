// The package leaves the process as it finds it, except for what the SDK's host does.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { ended } from "../support/programs";
import { ROOT } from "../support/project";

/** Adds a listener, as an agent that NODE_OPTIONS loads does, and prints the names of all when the process ends. */
const AGENT = `
  process.on("unhandledRejection", function ofAgent() {});
  process.on("SIGTERM", () => {
    console.log(process.listeners("unhandledRejection").map(({ name }) => name).join(" "));
    process.exit();
  });
`;

test("removes the listeners of the SDK's host for unhandled rejections, and no others", async (t) => {
  const host = join(ROOT, "node_modules", "@pulumi", "pulumi", "cmd", "run-plugin");
  const agent = `data:text/javascript,${encodeURIComponent(AGENT)}`;
  const child = spawn(process.execPath, ["--import", agent, host, join(ROOT, "component")], { cwd: ROOT });
  t.after(() => child.kill("SIGKILL"));
  // Its port.
  child.stdout.once("data", () => child.kill());
  const { stdout } = await ended(child);
  // Those of the server, which is started later: provider/server.js.
  assert.match(stdout, /^ofAgent uncaughtHandler uncaughtHandler$/m);
});
