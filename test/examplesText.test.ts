// The manifests in examples/ as text: the marks that tell a reader what to edit, and what to delete with the label.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isPair, isScalar, LineCounter, parseAllDocuments, visit } from "yaml";
import {
  type Entry,
  EXAMPLES,
  exampleOf,
  ORGANIZATION,
  readManifests,
  saysWhatToDelete,
  withoutExchange,
} from "./examples";

for (const file of EXAMPLES) {
  test(`${file} marks every line that depends on its settings with EDIT`, () => {
    const { entry, source } = exampleOf(file);
    const lines = source.split("\n");
    const unmarked = scalarsOf(source)
      .filter((scalar) => dependsOn(scalar, entry))
      .map(({ line }) => lines[line - 1] ?? "")
      .filter((line) => !line.includes("# EDIT"));
    assert.deepEqual(unmarked, []);
  });
}

for (const file of EXAMPLES.filter(saysWhatToDelete)) {
  const { entry, source } = exampleOf(file);

  test(`${file} keeps no part of the exchange once the lines are deleted that the label replaces`, () => {
    const kept = JSON.stringify(readManifests(withoutExchange(source)));
    assert.doesNotMatch(kept, /pulumi-token|exchange-token\.sh/);
    assert.match(kept, RegExp(`"serviceAccountName":"${entry.name}"`));
    // The schema of a Stack accepts no null, and requires the list of containers.
    assert.doesNotMatch(kept, /:null/);
    assert.match(kept, /"containers":\[\{"name":/);
  });
}

test("a pod mounts an ID token in each manifest, or has the label that adds it", () => {
  for (const file of EXAMPLES) {
    if (file === "external-secrets.yaml") continue; // no pod
    const { source, labeled } = exampleOf(file);
    assert.notEqual(/^ +- serviceAccountToken:$/m.test(source), labeled, file);
  }
});

interface Scalar {
  value: string;
  line: number;
  /** The keys that lead to the value. */
  path: string[];
}

/** Returns the values of all documents. */
function scalarsOf(source: string): Scalar[] {
  const lineCounter = new LineCounter();
  const found: Scalar[] = [];
  for (const document of parseAllDocuments(source, { lineCounter })) {
    visit(document, {
      Scalar(key, node, ancestors) {
        if (key === "key" || !isScalar(node) || !node.range) return;
        const path = ancestors.filter(isPair).map((pair) => String(pair.key));
        found.push({ value: String(node.value), line: lineCounter.linePos(node.range[0]).line, path });
      },
    });
  }
  return found;
}

/** Returns whether a value of a manifest follows from the settings: a reader who changes those has to change it too. */
function dependsOn({ value, path }: Scalar, { namespace, name, runnerId, tokenAudience }: Entry): boolean {
  const parents = ["serviceAccountName", "serviceAccountRef", "subjects"];
  if (value === name) return parents.some((parent) => path.includes(parent));
  const names = [namespace, `${name}-pulumi-token-exchange`, runnerId, tokenAudience];
  return names.includes(value) || RegExp(`(^|[:/])${ORGANIZATION}(/|$)`).test(value);
}
