// Imports go down only.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, read } from "../support/project";

test("imports go down only", () => {
  for (const [room, allowed] of Object.entries({
    ".": /^(?!simulator|policy|test)/,
    settings: /^(?!simulator|policy|test)/,
    policy: /^policy\//,
    simulator: /^(simulator|policy)\/|^index$|^settings\/(account|problems)$|^kubernetes\/plainObject$/,
  })) {
    for (const name of readdirSync(join(ROOT, room)).filter((file) => file.endsWith(".ts"))) {
      const imports = read(join(room, name)).matchAll(/(?:from|require\(|import) ?"(\.[^"]*)"/g);
      for (const [, path = ""] of imports) assert.match(join(room, path), allowed, `${room}/${name}`);
    }
  }
});
