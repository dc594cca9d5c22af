// The admission policy that adds to the pods of some service accounts what they need to exchange their ID tokens.
//
// The API server evaluates it, without a webhook: https://kubernetes.io/docs/reference/access-authn-authz/mutating-admission-policy/

import { hash } from "node:crypto";
import {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
} from "@pulumi/kubernetes/admissionregistration/v1";
import * as pulumi from "@pulumi/pulumi";
import { audiencesById, bindingSpec, policySpec } from "./kubernetes/injectionPolicy";
import { idOf } from "./settings/account";

export interface InjectionArgs {
  /** The service accounts whose pods are changed, and the audience of the ID token that each of them mounts. */
  accounts: { namespace: string; name: string; tokenAudience: pulumi.Input<string> }[];
}

/**
 * Creates a policy that adds the volume, its mount, and the variable to the pods of the service accounts when they are created.
 * Requires Kubernetes 1.36 and permission to manage admission policies in the whole cluster. The API server applies a change
 * after about a second.
 *
 * The accounts are part of the policy. With a ConfigMap as the policy's parameter, anyone who can create ConfigMaps could
 * add accounts, and the API server would not see new ones after the last binding was deleted:
 * https://github.com/kubernetes/kubernetes/issues/133827
 *
 * @param name of both resources. It begins with the name of the component, so that an alias of the component is one of
 *   theirs.
 * @param options `dependsOn` what must succeed before a pod is changed: the exchange takes precedence over a token that the
 *   pod has already.
 */
export function createInjection(
  name: string,
  { accounts }: InjectionArgs,
  options?: pulumi.CustomResourceOptions,
): void {
  const metadata = { name: objectName(name) };
  // A renamed component keeps its objects.
  const keepingName = { ...options, ignoreChanges: ["metadata.name"] };

  // Without the other settings: one that a preview does not know, such as the team, would make the whole policy unknown.
  const injected = accounts.map(({ namespace, name: accountName, tokenAudience }) => {
    return { namespace, id: idOf({ namespace, name: accountName }), tokenAudience };
  });
  const spec = policySpec(injected, pulumi.output(injected).apply(audiencesById));
  const policy = new MutatingAdmissionPolicy(name, { metadata, spec }, keepingName);
  new MutatingAdmissionPolicyBinding(
    name,
    { metadata, spec: bindingSpec(policy.metadata.name) },
    keepingName,
  );
}

/**
 * Returns the name of the objects of a resource. Policies are in no namespace, so the name differs for each stack and
 * component that uses the cluster. Pulumi's own names, with random characters, would contain what Kubernetes rejects in a
 * name, such as uppercase letters.
 */
function objectName(resourceName: string): string {
  const owner = [pulumi.getOrganization(), pulumi.getProject(), pulumi.getStack(), resourceName];
  const readable = resourceName
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replace(/^-/, "");
  const distinct = hash("sha256", owner.join("/")).slice(0, 8);
  return `${readable}-${distinct}`;
}
