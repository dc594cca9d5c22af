// The face of the package, from which `pulumi package add` generates SDKs. The types come before the component: Pulumi
// reads their descriptions only until it has found the component.

export { PulumiCloudAccess, type PulumiCloudAccessArgs } from "../pulumiCloudAccess";
export type { AccessSettings, AwsRole, ServiceAccount, TokenType } from "../settings";
export type { ServiceAccountAccess } from "../workloadIdentity";
