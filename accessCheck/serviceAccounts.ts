// The service accounts of a stack: for the simulation from its outputs, for the live check from the program.

/** A service account of the stack, from the stack's outputs and its ConfigMap. */
export interface ServiceAccount {
  namespace: string;
  name: string;
  tokenType: string;
  /** Such as `user:LOGIN`; empty for an organization token. */
  tokenScope: string;
  /** The audience of the ID token that its workloads exchange. */
  audience: string;
  /** Whether its allow policy has a rule on `aud`. */
  audienceRule: boolean;
  /** What its workloads request from Pulumi Cloud: the data of its ConfigMap. */
  settings: Record<string, string>;
  /** Undefined without an IAM role. */
  role: Role | undefined;
}

export interface Role {
  arn: string;
  /** How pods receive it: `awsRole` of the settings. */
  kind: "irsa" | "pod-identity";
}

/** What the stack's output says about a service account, as far as it is read here. */
export interface ServiceAccountOutput {
  tokenType: string;
  configMap: string;
  volume: { projected: { sources: { serviceAccountToken?: { audience: string } }[] } };
  roleArn?: string;
}

/**
 * Returns the service accounts that a stack's output describes.
 *
 * @param outputs the stack's output `serviceAccounts`.
 * @param configMap reads the data of a ConfigMap.
 * @param policies the allow policies of the stack's issuer.
 * @param podIdentities `NAMESPACE/NAME` of the service accounts that receive their role by EKS Pod Identity.
 */
export function readServiceAccounts(
  outputs: Record<string, ServiceAccountOutput>,
  configMap: (namespace: string, name: string) => Record<string, string>,
  policies: { rules: Record<string, string> }[],
  podIdentities: string[],
): ServiceAccount[] {
  const positionOf = (id: string) => {
    const [namespace = "", name = ""] = id.split("/");
    return policies.findIndex(({ rules }) => namesServiceAccount(rules, namespace, name));
  };
  // The policies have the order of the settings. The SDK adds the outputs as they become known.
  const ordered = Object.entries(outputs).sort(([one], [other]) => positionOf(one) - positionOf(other));
  return ordered.map(([id, output]) => {
    const [namespace = "", name = ""] = id.split("/");
    const policy = policies[positionOf(id)];
    const settings = configMap(namespace, output.configMap);
    const kind = podIdentities.includes(id) ? "pod-identity" : "irsa";
    return {
      namespace,
      name,
      tokenType: output.tokenType,
      tokenScope: settings.tokenScope ?? "",
      audience: audienceIn(output),
      audienceRule: policy?.rules.aud !== undefined,
      settings,
      role: output.roleArn ? { arn: output.roleArn, kind } : undefined,
    };
  });
}

/** Returns the audience of the ID token in the volume of an output. */
function audienceIn({ volume }: ServiceAccountOutput): string {
  const audiences = volume.projected.sources.map(({ serviceAccountToken }) => serviceAccountToken?.audience);
  return audiences.find((audience) => audience !== undefined) ?? "";
}

/** Returns whether the rules of an allow policy name a service account. */
export function namesServiceAccount(rules: Record<string, string>, namespace: string, name: string): boolean {
  return (
    rules['"kubernetes.io".namespace'] === namespace && rules['"kubernetes.io".serviceaccount.name'] === name
  );
}

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}
