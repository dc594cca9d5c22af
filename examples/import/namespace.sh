#!/usr/bin/env bash
# Imports an existing namespace into an access stack. Run it in the directory of your copy, whose `createNamespaces` contains it.
#
# Usage: namespace.sh ORGANIZATION/STACK NAMESPACE
set -euo pipefail

if (($# != 2)); then
  echo 'Usage: namespace.sh ORGANIZATION/STACK NAMESPACE' >&2
  exit 64
fi
stack=$1 namespace=$2

project=urn:pulumi:${stack##*/}::$(sed -n 's/^name: *//p' Pulumi.yaml)
access="$project::eks-pulumi-oidc:index:PulumiCloudAccess"

# Until the next update retains the namespace, only `protect` keeps Pulumi from deleting it with everything in it.
pulumi import --stack "$stack" --yes --protect=true --generate-code=false \
  --provider "cluster=$project::pulumi:providers:kubernetes::cluster" \
  --parent "access=$access::access" \
  kubernetes:core/v1:Namespace "access.$namespace" "$namespace"
pulumi preview --stack "$stack" --diff
