// The defaults in the comments of the interfaces are those of the program, and the README's stack file is valid.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import { parseConfig } from "../../config";
import { declarationsOf, meaningAndDefault } from "../support/declarations";
import { codeIn, read } from "../support/project";
import { rawConfigOf } from "../support/rawSettings";

const SETTINGS = ["ClusterSettings", "UserSettings", "AccessSettings", "ServiceAccount"];

test("the defaults in the interfaces are those of the program", () => {
  const { config } = parseConfig(rawConfigOf({ clusterName: "CLUSTER_NAME", userLogin: "a" }));
  const { cluster, access } = config ?? assert.fail();
  const [{ namespace, name, tokenType, userLogin, ...account } = assert.fail()] = access.serviceAccounts;
  const { serviceAccounts, organization, ...shared } = access;
  const { clusterName, aws, ...created } = cluster;
  const declarations = SETTINGS.flatMap(declarationsOf);
  for (const [key, value] of Object.entries({ ...account, ...shared, ...created })) {
    const { comment } = declarations.find(({ name }) => name === key) ?? assert.fail(key);
    const [, documented] = meaningAndDefault(comment);
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const expected = {
      tokenExpirationSeconds: "maxExpirationSeconds",
      tokenAudience: "urn:pulumi:org:ORGANIZATION",
    }[key];
    assert.equal(documented.split("; ")[0]?.replaceAll("`", ""), expected ?? text, key);
  }
});

test("the README's complete stack file is valid", () => {
  const [, file = ""] = codeIn(read("README.md"), "yaml");
  const { config, problems } = parseConfig(rawConfigOf(parse(file).config));
  assert.deepEqual(problems, []);
  assert.equal(config?.access.serviceAccounts.length, 2);
});
