#!/usr/bin/env bash
# Imports a registered issuer and existing service accounts into an access stack. Run it in the directory of your copy, whose settings
# list every service account that uses the issuer: docs/copy.md.
#
# Don't import an issuer that another access stack owns. `pulumi up` replaces its allow policies, which this prints:
#   pulumi api /api/orgs/acme/auth/policies/oidcissuers/ISSUER_ID
# If one has a role (`roleID`), set `organizationRoleId` in its entry.
#
# It runs `pulumi up --yes` for the component only, and ends with a preview, which must not replace or delete what was imported.
#
# Usage: issuer.sh ORGANIZATION/STACK ORGANIZATION/ISSUER_ID [NAMESPACE/NAME...]
# NAMESPACE/NAME: the service accounts that exist
set -euo pipefail

if (($# < 2)); then
  echo 'Usage: issuer.sh ORGANIZATION/STACK ORGANIZATION/ISSUER_ID [NAMESPACE/NAME...]' >&2
  exit 64
fi
stack=$1 issuer=$2
accounts=("${@:3}")

project=urn:pulumi:${stack##*/}::$(sed -n 's/^name: *//p' Pulumi.yaml)
access="$project::eks-pulumi-oidc:index:PulumiCloudAccess"
identity="$access\$eks-pulumi-oidc:index:WorkloadIdentity::access"
options=(--stack "$stack" --yes --protect=false --generate-code=false)
targets=("${accounts[@]//\//.}")

pulumi up --stack "$stack" --yes --target '**pulumi:providers:*::*' --target '**:Stash::*' --target '**:OpenIdConnectProvider::*' \
  --target "$access::access" "${targets[@]/#/--target=$identity.}"

pulumi import "${options[@]}" --provider "pulumi-cloud=$project::pulumi:providers:pulumiservice::pulumi-cloud" \
  --parent "access=$access::access" pulumiservice:index:OidcIssuer access.oidc-issuer "$issuer"
for account in "${accounts[@]}"; do
  pulumi import "${options[@]}" --provider "cluster=$project::pulumi:providers:kubernetes::cluster" \
    --parent "identity=$identity.${account/\//.}" \
    kubernetes:core/v1:ServiceAccount "access.${account/\//.}" "$account"
done
pulumi preview --stack "$stack" --diff
