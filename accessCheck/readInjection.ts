// Reads the admission policy that adds the exchange to pods.

import type { Injection } from "./components";
import { type Found, resourceOf } from "./foundResources";
import { type Fields, fieldsAt, fieldsIn, type Value, valueAt, without } from "./values";

const POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy";

export function isInjection({ type }: Found): boolean {
  return type === POLICY || type === `${POLICY}Binding`;
}

/** @param component the name of the component. */
export function readInjection(found: Found[], component: string): Injection {
  const policy = found.find(({ type }) => type === POLICY);
  const spec = fieldsAt(policy?.inputs, "spec");
  return {
    resources: found.map((it) => resourceOf(it, `${component}.`)),
    selection: policy && {
      matchConstraints: valueAt(policy.inputs, "spec", "matchConstraints") ?? null,
      "service-account": expressionIn(policy.inputs, "matchConditions", "service-account") ?? null,
      audiences: expressionIn(policy.inputs, "variables", "audiences") ?? null,
    },
    rest: {
      ...without(spec, "matchConstraints"),
      matchConditions: others(spec, "matchConditions", "service-account"),
      variables: others(spec, "variables", "audiences"),
    },
  };
}

/** Returns the expression with a name in a list of the policy; the list, if it is not one. */
function expressionIn(policy: Fields, list: string, name: string): Value | undefined {
  const elements = valueAt(policy, "spec", list);
  if (!Array.isArray(elements)) return elements;
  return valueAt(
    fieldsIn(elements).find((it) => valueAt(it, "name") === name),
    "expression",
  );
}

function others(spec: Fields, list: string, name: string): Value {
  const elements = valueAt(spec, list) ?? null;
  return Array.isArray(elements) ? elements.filter((it) => valueAt(it, "name") !== name) : elements;
}
