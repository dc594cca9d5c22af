// One service account with its access: the role, the service account, what its workloads mount, and the Job that tests the exchange.

import type { Role } from "@pulumi/aws/iam";
import type { Job } from "@pulumi/kubernetes/batch/v1";
import { ServiceAccount } from "@pulumi/kubernetes/core/v1";
import * as pulumi from "@pulumi/pulumi";
import type { OidcIssuer } from "@pulumi/pulumiservice";
import type { AccountConfig, StackConfig } from "./config";
import { createRole } from "./iam";
import { createJob, createTokenExchange, type TokenExchange } from "./job";
import type { AllowPolicy } from "./oidcIssuer";
import { createServiceAccount } from "./serviceAccount";
import { STS_AUDIENCE } from "./settings";

type SharedConfig = "organization" | "pulumiApiUrl" | "permissionsBoundaryArn" | "rolePath" | "image" | "jobPodSpec";

export interface WorkloadIdentityArgs extends Pick<StackConfig, SharedConfig> {
  account: AccountConfig;
  /** The name of the account's namespace, known once that exists. */
  namespace: pulumi.Input<string>;
  /** The cluster's OIDC issuer, `https://…`, and its IAM OIDC provider. */
  issuerUrl: pulumi.Input<string>;
  oidcProviderArn: pulumi.Input<string>;
  /** The Pulumi Cloud issuer, and the policy in it that allows this service account. */
  oidcIssuer: OidcIssuer;
  policy: AllowPolicy;
}

/** Creates the access of one service account. Its name and its children's are `NAMESPACE.NAME`. */
export class WorkloadIdentity extends pulumi.ComponentResource {
  readonly role?: Role;
  readonly serviceAccount?: ServiceAccount;
  readonly tokenExchange: TokenExchange;
  readonly job?: Job;
  /** `NAMESPACE/NAME` of the service account, and what other programs need to know about it. */
  readonly id: string;
  readonly summary: pulumi.Inputs;

  /** @param options the Kubernetes provider of the cluster whose issuer is trusted. */
  constructor(name: string, args: WorkloadIdentityArgs, options: pulumi.ComponentResourceOptions) {
    super("eks-pulumi-oidc:index:WorkloadIdentity", name, {}, options);
    const { account, namespace } = args;
    const inComponent = { parent: this };
    const dependsOn: pulumi.Resource[] = [args.oidcIssuer];

    if (account.createRole) {
      const { role, attachments } = createRole(
        name,
        {
          issuerUrl: args.issuerUrl,
          oidcProviderArn: args.oidcProviderArn,
          namespace: account.namespace,
          serviceAccountName: account.name,
          policyArns: account.rolePolicyArns,
          permissionsBoundaryArn: args.permissionsBoundaryArn,
          path: args.rolePath,
        },
        inComponent,
      );
      this.role = role;
      dependsOn.push(...attachments);
    }
    if (account.createServiceAccount) {
      const metadata = { name: account.name, namespace, roleArn: this.role?.arn };
      this.serviceAccount = createServiceAccount(name, metadata, inComponent);
    } else if (account.runJob) {
      this.serviceAccount = ServiceAccount.get(name, `${account.namespace}/${account.name}`, inComponent);
    }

    // The EKS webhook mounts a token only where this stack has annotated the service account.
    const isAnnotated = account.createServiceAccount && account.createRole;
    const projectedAudience = isAnnotated && account.tokenAudience === STS_AUDIENCE ? undefined : account.tokenAudience;
    this.tokenExchange = createTokenExchange(
      name,
      {
        namespace,
        serviceAccountName: account.name,
        organization: args.organization,
        tokenType: account.token.tokenType,
        tokenScope: account.tokenScope,
        tokenExpirationSeconds: account.tokenExpirationSeconds,
        apiUrl: args.pulumiApiUrl,
        projectedAudience,
      },
      inComponent,
    );

    if (account.runJob && this.serviceAccount) {
      this.job = createJob(
        name,
        {
          namespace,
          serviceAccountName: this.serviceAccount.metadata.name,
          tokenExchange: this.tokenExchange,
          projectedAudience,
          image: args.image,
          command: account.command,
          podSpec: args.jobPodSpec,
        },
        {
          ...inComponent,
          dependsOn: [...dependsOn, this.serviceAccount],
          // The pod's spec does not contain the policy, so a changed one would not run the exchange again.
          replacementTrigger: [args.oidcIssuer.id, args.policy],
        },
      );
    }
    this.id = `${account.namespace}/${account.name}`;
    this.summary = {
      roleArn: this.role?.arn,
      jobName: this.job?.metadata.name,
      tokenType: account.token.tokenType,
      tokenScope: account.tokenScope,
      environmentConfigMap: this.tokenExchange.environment.metadata.name,
      scriptConfigMap: this.tokenExchange.script.metadata.name,
    };
    this.registerOutputs();
  }
}
