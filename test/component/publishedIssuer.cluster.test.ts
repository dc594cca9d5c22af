// A cluster whose issuer is two published files, as examples/component/kind/README.md sets it up, and as a self-managed cluster has it: the
// API server has the flags of examples/component/kind/cluster.yaml, and Pulumi Cloud reads the keys from the files.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { jwtVerify } from "jose";
import { parse } from "yaml";
import { missingApiServer, startApiServer } from "../environment/apiServer";
import { publishedKeys } from "../environment/realKubernetes";
import { codeIn, read } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { startTlsServer } from "../support/tls";

/** The commands of the page that write the two files. */
const WRITE_FILES =
  codeIn(read("examples/component/kind/README.md"), "bash").find((commands) =>
    commands.includes("/openid/v1/jwks >"),
  ) ?? assert.fail("examples/component/kind/README.md writes no keys");

test("the ID tokens of a cluster whose issuer is two published files are signed with a published key", {
  skip: missingApiServer,
}, async (t) => {
  const published = temporaryDirectory(t);
  const place = await startTlsServer((path) => {
    return JSON.parse(readFileSync(join(published, path.replace("/pulumi-trial-issuer/", "")), "utf8"));
  });
  t.after(place.close);
  const [patch = assert.fail()] = parse(read("examples/component/kind/cluster.yaml")).kubeadmConfigPatches;
  const { extraArgs } = parse(patch.replaceAll("https://LOGIN.github.io", place.origin)).apiServer;
  const server = await startApiServer(extraArgs);
  t.after(server.close);
  await server.shell(WRITE_FILES, { cwd: published });

  await server.createNamespace("pulumi-trial");
  const options = ["--namespace=pulumi-trial", "--audience=urn:pulumi:org:acme"];
  const idToken = (await server.kubectl(["create", "token", "default", ...options])).trim();
  const issuer = extraArgs["service-account-issuer"];
  const keys = await publishedKeys(issuer);
  const { payload } = await jwtVerify(idToken, keys, { issuer, audience: "urn:pulumi:org:acme" });
  assert.equal(payload.sub, "system:serviceaccount:pulumi-trial:default");
});
