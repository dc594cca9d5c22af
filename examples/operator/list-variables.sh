#!/usr/bin/env bash
# Lists where the Stacks of the Pulumi Kubernetes Operator read variables from: namespace, Stack, service account, field, and Secret or
# ConfigMap. Requires kubectl and jq.
set -euo pipefail

kubectl get stacks.pulumi.com --all-namespaces --output json | jq --raw-output '
  .items[] | .metadata as $stack | .spec as $spec
  | ($spec.envRefs.PULUMI_ACCESS_TOKEN | values | ["envRefs", .secret.name // "(\(.type))"]),
    ($spec.accessTokenSecret | values | ["accessTokenSecret", .]),
    ($spec.envSecrets[]? | ["envSecrets", .]),
    ($spec.envs[]? | ["envs", .]),
    ($spec.workspaceTemplate | .. | objects
      | (select(.name == "PULUMI_ACCESS_TOKEN") | .valueFrom // {} | .secretKeyRef // .configMapKeyRef
          | ["env", .name // "(Literal)"]),
        (.secretRef, .configMapRef | values | ["envFrom", .name]))
  | [$stack.namespace, $stack.name, $spec.workspaceTemplate.spec.serviceAccountName // $spec.serviceAccountName // "default"] + . | @tsv'
