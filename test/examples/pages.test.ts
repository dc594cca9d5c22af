// The pages name the exit codes that exist, and what a Stack of the Pulumi Kubernetes Operator needs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "yaml";
import {
  CONFIG_MAP_SUFFIX,
  CREDENTIAL_HELPER,
  tokenVolume,
  VOLUME_MOUNT,
} from "../../kubernetes/tokenVolume";
import { read, sectionOf } from "../support/project";

test("docs/troubleshooting.md lists the exit codes of the exchange script", () => {
  const section = sectionOf(read("docs/troubleshooting.md"), "## Exit codes");
  const listed = section.match(/(?<=^- \*\*)\d+(?=\*\*)/gm);

  // In the comment at the beginning of the script.
  const documented = read("scripts/exchange-token.sh").match(/(?<=^# {3})\d\d(?= {2})/gm) ?? [];
  assert.ok(documented.length >= 6);
  assert.deepEqual(listed, documented);
});

test("examples/operator/kustomization.yaml mounts in a Stack what a pod of its service account needs", () => {
  const [{ patch }] = parse(read("examples/operator/kustomization.yaml")).patches;
  // As Kustomize reads it: YAML 1.1, in which 0555 is octal.
  const { envRefs, workspaceTemplate } = parse(patch, { version: "1.1" }).spec;
  const { name, value } = CREDENTIAL_HELPER;
  assert.deepEqual(envRefs, { [name]: { type: "Literal", literal: { value } } });
  assert.deepEqual(workspaceTemplate.spec.podTemplate.spec, {
    containers: [{ name: "pulumi", volumeMounts: [VOLUME_MOUNT] }],
    volumes: [tokenVolume(`deployer${CONFIG_MAP_SUFFIX}`, "urn:pulumi:org:acme")],
  });
});
