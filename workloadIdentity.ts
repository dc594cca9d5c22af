// One service account with what it needs: the role, the service account, what its workloads mount, and the Job that tests
// the token exchange.

import * as pulumi from "@pulumi/pulumi";
import { createAwsRole } from "./iam";
import { createJob, jobName } from "./job";
import { CREDENTIAL_HELPER, tokenVolume, VOLUME_MOUNT } from "./kubernetes/tokenVolume";
import { createServiceAccount, readServiceAccount } from "./serviceAccount";
import type { CompleteSettings } from "./settings/access";
import type { Account } from "./settings/account";
import type { ClusterInputs, RoleSource } from "./settings/cluster";
import { grantLineOf } from "./settings/grants";
import { type AuthPolicy, TOKEN_TYPES, type TokenType } from "./settings/tokenTypes";
import { createExchangeConfigMap } from "./tokenExchange";

/** What one service account has: the names of its resources, and what a pod needs to exchange a token. */
export interface ServiceAccountOutputs {
  /** ARN of its IAM role. */
  roleArn?: pulumi.Output<string>;
  /** Name of its IAM role, to attach other policies. */
  roleName?: pulumi.Output<string>;
  /** Name of the Job that tested the token exchange. */
  jobName?: string;
  /** Type of its access token. */
  tokenType: TokenType;
  /** Name of the ConfigMap with the exchange script and its settings. */
  configMap: string;
  /** Environment variables for each container that uses the token. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  env: any[];
  /** Volume for the pod. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  volume: any;
  /** Mount of the volume for each of these containers. */
  // biome-ignore lint/suspicious/noExplicitAny: a pod spec takes it as it is, in every language.
  volumeMount: any;
}

export interface WorkloadIdentityArgs {
  account: Account;
  /** What all service accounts have in common. */
  settings: Pick<
    CompleteSettings,
    | "organization"
    | "pulumiApiUrl"
    | "maxExpirationSeconds"
    | "permissionsBoundaryArn"
    | "rolePath"
    | "image"
    | "jobPodSpec"
  > &
    Pick<ClusterInputs, "issuerUrl">;
  roleSource: RoleSource;
  /** The issuer that grants the access token, and its policy for this service account. */
  oidcIssuer: pulumi.CustomResource;
  policy: AuthPolicy;
  /** What has to exist before anything in the cluster changes: the denials of all suspended service accounts. */
  denials: Promise<pulumi.Resource[]>;
}

/** Creates what one service account needs. Its children have its own name. */
export class WorkloadIdentity extends pulumi.ComponentResource {
  readonly outputs: ServiceAccountOutputs;
  /** What the service account is granted, in one line. */
  readonly grant: Promise<string>;
  /** What a pod that uses the exchange has to wait for: the Job that tests it, or without one, what that would wait for. */
  readonly ready: pulumi.Resource[];
  /** What denies the role everything while the entry is suspended. */
  readonly denials: pulumi.Resource[];

  constructor(name: string, args: WorkloadIdentityArgs, options: pulumi.ComponentResourceOptions) {
    super("eks-pulumi-oidc:index:WorkloadIdentity", name, {}, options);
    const { account, settings, roleSource } = args;
    // Plain, and not outputs: with a new cluster, a preview does not know those.
    const { namespace, name: serviceAccountName } = account;
    const inComponent = { parent: this };

    const awsRole = createAwsRole(
      name,
      { account, source: roleSource, issuerUrl: settings.issuerUrl, settings },
      inComponent,
    );
    const { role, irsaRoleArn, permissions } = awsRole;
    this.denials = awsRole.denials;

    const afterDenials = { ...inComponent, dependsOn: args.denials };
    const created = account.createServiceAccount
      ? createServiceAccount(name, { name: serviceAccountName, namespace, irsaRoleArn }, afterDenials)
      : undefined;
    const serviceAccount =
      created ?? (account.runJob ? readServiceAccount(name, account, afterDenials) : undefined);

    const request = {
      organization: settings.organization,
      tokenType: account.tokenType,
      tokenScope: TOKEN_TYPES[account.tokenType].scope(account),
      tokenExpirationSeconds: String(account.tokenExpirationSeconds),
      apiUrl: settings.pulumiApiUrl,
    };
    // Workloads keep their settings, such as the team, until those can be granted.
    const afterIssuer = args.denials.then((denials) => [args.oidcIssuer, ...denials]);
    const tokenExchange = createExchangeConfigMap(
      name,
      { namespace, serviceAccountName, settings: request },
      { ...inComponent, dependsOn: afterIssuer },
    );

    const prerequisites = [
      args.oidcIssuer,
      ...(serviceAccount ? [serviceAccount] : []),
      ...awsRole.prerequisites,
    ];
    const runsJob = account.runJob && !account.suspended;
    if (runsJob) {
      const job = createJob(
        name,
        {
          namespace,
          serviceAccountName,
          tokenExchange,
          tokenAudience: account.tokenAudience,
          image: settings.image,
          command: account.command,
          podSpec: settings.jobPodSpec,
        },
        {
          ...inComponent,
          dependsOn: prerequisites,
          // The pod's spec does not contain the policy, so a changed one would not run the exchange again.
          replacementTrigger: [args.oidcIssuer.id, args.policy],
        },
      );
      this.ready = [job];
    } else {
      this.ready = [tokenExchange.configMap, ...prerequisites];
    }

    const { policy } = args;
    const { injectToken } = account;
    const registered = {
      namespace,
      name: serviceAccountName,
      policy,
      request,
      role: permissions,
      injectToken,
    };
    this.grant = grantLineOf(registered, settings);

    // jobName and configMap are strings, and not outputs of the Job and the ConfigMap. To a program that imports the package, all
    // of this is one output, which depends on every resource in it. If it depended on the Job, Pulumi would delete a policy that
    // the program attaches to roleName whenever it replaces the Job.
    this.outputs = {
      ...(role && { roleArn: role.arn, roleName: role.name }),
      ...(runsJob && { jobName: jobName(account.name) }),
      tokenType: account.tokenType,
      configMap: tokenExchange.configMapName,
      env: [CREDENTIAL_HELPER],
      volume: tokenVolume<pulumi.Input<string>>(tokenExchange.configMapName, account.tokenAudience),
      volumeMount: VOLUME_MOUNT,
    };
    this.registerOutputs({ ...this.outputs });
  }
}
