#!/usr/bin/env bash
# Lets the service account with a Stack's name assume the IAM role of the service account that the Stack runs as now. For IRSA and EKS
# Pod Identity, it adds the new service account to the role's trust policy wherever the current one is named; for Pod Identity, it also
# creates an association. It prints what became of each role, and skips a Stack without a role. IAM limits the length of a trust policy:
# for many Stacks, create more roles. Requires kubectl, jq, and the AWS CLI with credentials for the account of the cluster and the role, which
# need eks:ListPodIdentityAssociations, iam:GetRole, and iam:UpdateAssumeRolePolicy, and for Pod Identity, eks:DescribePodIdentityAssociation,
# eks:CreatePodIdentityAssociation, and iam:PassRole.
#
# Usage: trust-service-accounts.sh CLUSTER NAMESPACE STACK...
set -Eeuo pipefail
trap 'exit 255' ERR # ends xargs, too

if [[ $# -lt 3 ]]; then
  echo "Usage: trust-service-accounts.sh CLUSTER NAMESPACE STACK..." >&2
  exit 64
fi
cluster=$1 namespace=$2

# Prints the ID of the association of a service account, if there is one.
association_of() {
  aws eks list-pod-identity-associations --cluster-name "$cluster" --namespace "$namespace" --service-account "$1" --output json |
    jq --raw-output '.associations[].associationId'
}

# Adds the new service account to the trust policy of a role.
trust() {
  local role changed policy
  role=$(aws iam get-role --role-name "${1##*/}" --output json)
  if [[ $(jq --raw-output .Role.Arn <<<"$role") != "$1" ]]; then
    echo "The role $1 is in another AWS account. Run this command with credentials for that account." >&2
    exit 255
  fi
  policy=$(jq --compact-output '.Role.AssumeRolePolicyDocument | .Statement |= ([.] | flatten)' <<<"$role")
  changed=$(jq --compact-output --arg namespace "$namespace" --arg current "$current" --arg new "$stack" '
    def add(old; new): if [.] | flatten | index(old) then [., new] | flatten | unique else . end;
    def subject(name): "system:serviceaccount:\($namespace):\(name)";
    .Statement |= map(
      if .Condition then .Condition |= map_values(with_entries(
        if .key | endswith(":sub") then .value |= add(subject($current); subject($new))
        elif .key == "aws:RequestTag/kubernetes-service-account" then .value |= add($current; $new)
        else . end))
      else . end)' <<<"$policy")
  if [[ $changed == "$policy" ]]; then
    echo "$1: trust policy unchanged. Check that it allows $namespace/$stack."
  else
    aws iam update-assume-role-policy --role-name "${1##*/}" --policy-document "$changed"
    echo "$1: trusts $namespace/$stack"
  fi
}

for stack in "${@:3}"; do
  current=$(kubectl get stacks.pulumi.com "$stack" --namespace "$namespace" --output jsonpath='{.spec.serviceAccountName}')
  current=${current:-default}
  if [[ $current == "$stack" ]]; then continue; fi

  irsa=$(kubectl get serviceaccount "$current" --namespace "$namespace" \
    --output jsonpath='{.metadata.annotations.eks\.amazonaws\.com/role-arn}')
  if [[ -n $irsa ]]; then trust "$irsa"; fi

  association=$(association_of "$current")
  if [[ -z $association ]]; then continue; fi
  association=$(aws eks describe-pod-identity-association --cluster-name "$cluster" --association-id "$association" --output json)
  trust "$(jq --raw-output .association.roleArn <<<"$association")"
  created=$(association_of "$stack")
  if [[ -n $created ]]; then continue; fi
  aws eks create-pod-identity-association --output text --query association.associationId --cli-input-json "$(
    jq --arg new "$stack" '.association | .serviceAccount = $new
      | {clusterName, namespace, serviceAccount, roleArn, targetRoleArn, disableSessionTags, policy}
      | map_values(values)' <<<"$association"
  )"
done
