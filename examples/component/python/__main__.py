# Names are in snake case, except the keys within job_pod_spec, policy_rules, env, volume, and volume_mount.

import json

import OWNER_eks_pulumi_oidc as eks_pulumi_oidc
import pulumi
import pulumi_aws as aws
import pulumi_eks as eks
import pulumi_kubernetes as kubernetes

# The program's own cluster, with its IAM OIDC provider.
cluster = eks.Cluster(
    "prod",
    name="prod",
    authentication_mode=eks.AuthenticationMode.API,
    create_oidc_provider=True,
)

# The ConfigMaps of the component are updated in place.
kubernetes_provider = kubernetes.Provider(
    "prod",
    kubeconfig=cluster.kubeconfig_json,
    cluster_identifier=cluster.oidc_provider_url,
    enable_config_map_mutable=True,
    # Explicit, so that PULUMI_K8S_UPSERT_EXISTING_OBJECTS can't let the program adopt, and later delete, what exists.
    upsert_existing_objects=False,
    opts=pulumi.ResourceOptions(depends_on=[cluster]),
)

namespace = kubernetes.core.v1.Namespace(
    "team-a",
    metadata={"name": "team-a"},
    opts=pulumi.ResourceOptions(provider=kubernetes_provider),
)

organization = pulumi.get_organization()

# The upper limit for the service accounts' roles.
boundary = aws.iam.Policy(
    "boundary",
    policy=json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
        }
    ),
)

access = eks_pulumi_oidc.PulumiCloudAccess(
    "access",
    organization=organization,
    issuer_name="eks-prod",
    issuer_url=cluster.oidc_provider_url,
    oidc_provider_arn=cluster.oidc_provider_arn,
    permissions_boundary_arn=boundary.arn,
    service_accounts=[
        eks_pulumi_oidc.ServiceAccountArgs(
            namespace="team-a",
            name="deployer",
            token_type=eks_pulumi_oidc.TokenType.TEAM,
            team_name="team-a",
            aws_role=eks_pulumi_oidc.AwsRole.IRSA,
        ),
        eks_pulumi_oidc.ServiceAccountArgs(
            namespace="team-a",
            name="app",
            token_type=eks_pulumi_oidc.TokenType.TEAM,
            team_name="team-a",
        ),
    ],
    # Names are plain strings, so the component depends on the namespace as a whole.
    opts=pulumi.ResourceOptions(providers=[kubernetes_provider], depends_on=[namespace]),
)

# Grants the deployer AWS permissions.
policy = aws.iam.Policy(
    "read-reports",
    policy=json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::acme-reports/*"}
            ],
        }
    ),
)
aws.iam.RolePolicyAttachment(
    "deployer-read-reports",
    role=access.service_accounts["team-a/deployer"].role_name,
    policy_arn=policy.arn,
)

pulumi.export("oidcIssuerId", access.oidc_issuer_id)
# Who gets what, for a reviewer.
pulumi.export("grants", access.grants)
# The names of the IAM roles, for an incident.
pulumi.export(
    "serviceAccounts",
    access.service_accounts.apply(
        lambda accounts: {name: {"roleName": account.role_name} for name, account in accounts.items()}
    ),
)
