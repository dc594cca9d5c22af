// The face of the package, from which `pulumi package add` generates SDKs.

export { AwsRole, type ServiceAccount } from "../settings/account";
export { TokenType } from "../settings/tokenTypes";
export type { ServiceAccountOutputs } from "../workloadIdentity";

// The component is the last: Pulumi reads the descriptions of types only until it has found the component.

export { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../pulumiCloudAccess";
