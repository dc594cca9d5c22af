// The service accounts of a stack, as its program registers them.

/** A service account of the stack. */
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

/** A resource that the program registers. */
export interface Resource {
  /** Such as `aws:iam/role:Role`. */
  type: string;
  name: string;
  /** What the program says, never what exists. */
  inputs: Record<string, unknown>;
  /** Undefined if it does not exist yet. */
  id?: string | undefined;
  outputs?: object | undefined;
}

/** The arguments of the component that the program has checked: `PulumiCloudAccessArgs`, as far as they are read here. */
interface Access {
  organization: string;
  issuerUrl: string;
  maxExpirationSeconds: number;
  pulumiApiUrl: string;
  serviceAccounts: {
    namespace: string;
    name: string;
    tokenType: string;
    tokenAudience: string;
    audienceRule: boolean;
    awsRole: Role["kind"] | "none";
  }[];
}

/** Returns the name and the arguments of the component in a program. */
export function findComponent(resources: Resource[]): { name: string; access: Access } | undefined {
  const found = resources.find(({ type }) => type === "eks-pulumi-oidc:index:PulumiCloudAccess");
  return found && { name: found.name, access: found.inputs as unknown as Access };
}

/**
 * Returns the service accounts of a program that exist, in the order of its settings. Of what exists it reads only the ARNs of
 * the roles: anyone who can change the cluster or the state could otherwise choose who is asked for which token.
 *
 * @throws Error if one of these ARNs is invalid.
 */
export function readServiceAccounts(resources: Resource[]): ServiceAccount[] {
  const component = findComponent(resources);
  const accounts = component?.access.serviceAccounts ?? [];
  return accounts.flatMap(({ namespace, name, tokenType, tokenAudience, audienceRule, awsRole }) => {
    const find = (type: string, suffix = "") => {
      const resource = `${component?.name}.${namespace}.${name}${suffix}`;
      return resources.find((it) => it.type === type && it.name === resource);
    };
    const configMap = find("kubernetes:core/v1:ConfigMap", ".pulumi-token-exchange");
    // A service account that is not deployed yet is a difference that the preview shows.
    if (!configMap?.id) return [];
    const settings = configMap.inputs.data as Record<string, string>;
    const role = find("aws:iam/role:Role");
    return {
      namespace,
      name,
      tokenType,
      tokenScope: settings.tokenScope ?? "",
      audience: tokenAudience,
      audienceRule,
      settings,
      role: role?.id && awsRole !== "none" ? { arn: roleArnOf(role), kind: awsRole } : undefined,
    };
  });
}

// With an argument such as `file://PATH`, the AWS CLI would read that file.
const ROLE_ARN = /^arn:[a-z-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/;

function roleArnOf({ outputs }: Resource): string {
  const { arn } = Object(outputs) as { arn?: unknown };
  if (typeof arn === "string" && ROLE_ARN.test(arn)) return arn;
  throw new Error(
    `The ARN of an IAM role in the state is invalid: ${JSON.stringify(arn)}. No token was sent.`,
  );
}

/** Returns `NAMESPACE/NAME`. */
export function idOf({ namespace, name }: { namespace: string; name: string }): string {
  return `${namespace}/${name}`;
}
