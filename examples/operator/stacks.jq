# What the scripts in this directory know about a Stack of the Pulumi Kubernetes Operator.

# The service account of a Stack.
def account:
  .spec | .workspaceTemplate.spec.podTemplate.spec.serviceAccountName // .workspaceTemplate.spec.serviceAccountName
    // .serviceAccountName // "default";

# The version of the Pulumi CLI in a Workspace, which the operator reports since 2.3.
def cli: .status.pulumiVersion // "unknown" | ltrimstr("v");

# Whether a pod gets its token from the exchange if its CLI supports this.
def has_exchange:
  any(.spec.containers[] | select(.name == "pulumi") | .env[]?;
    .name == "PULUMI_CREDENTIAL_HELPER" and (.value // "" | endswith("/exchange-token.sh")));

# What the pod of a Workspace uses, once the operator has selected the Pulumi stack in it.
def login($workspace; $pod):
  if $pod.metadata.annotations["auto.pulumi.com/initialized"] != "true" then "no-pod"
  elif ($pod | has_exchange) and ($workspace | cli | split(".") | map(tonumber? // 0)) >= [3, 274] then "exchange"
  else "stored" end;

# The spec of a Stack after an action of move-stacks.sh. All other containers, mounts, and volumes stay.
def changed($action; $account; $audience):
  "pulumi-token-exchange" as $volume | "/var/run/secrets/pulumi.com" as $directory
  | def replaced($new): . // [] | map(select(.name != $volume)) + $new;
    def set_mount($volumes; $mounts):
      .workspaceTemplate.spec.podTemplate.spec |= (
        .volumes |= replaced($volumes)
        # The container of the operator itself.
        | .containers |= ((. // []) | if any(.name == "pulumi") then . else . + [{name: "pulumi"}] end)
        | (.containers[] | select(.name == "pulumi").volumeMounts) |= replaced($mounts)
        | del(select(.volumes == []).volumes, (.containers[] | select(.volumeMounts == []).volumeMounts)))
      | del(.workspaceTemplate.spec | select(.podTemplate.spec == {containers: [{name: "pulumi"}]}).podTemplate)
      | del(select(.workspaceTemplate == {spec: {}}).workspaceTemplate, select(.envRefs == {}).envRefs);
  if $action == "mount" then
    .envRefs.PULUMI_CREDENTIAL_HELPER = {type: "Literal", literal: {value: "\($directory)/exchange-token.sh"}}
    | [ {configMap: {name: "\($account)-\($volume)"}},
        {serviceAccountToken: {$audience, expirationSeconds: 600, path: "token"}} ] as $sources
    | set_mount([{name: $volume, projected: {defaultMode: 365, $sources}}]; # 0555
        [{name: $volume, mountPath: $directory, readOnly: true}])
  elif $action == "unmount" then del(.envRefs.PULUMI_CREDENTIAL_HELPER) | set_mount([]; [])
  elif $action == "remove-token" then del(.accessTokenSecret, .envRefs.PULUMI_ACCESS_TOKEN)
  else . end;

# The JSON patch of an action, or nothing if the last update succeeded with the same spec. A new request starts an update.
def patch($action; $account; $audience):
  (.spec | changed($action; $account; $audience)) as $spec
  | if .spec == $spec and .status.lastUpdate.generation == .metadata.generation and .status.lastUpdate.state == "succeeded" then empty
    else (.metadata.annotations + {"pulumi.com/reconciliation-request": "move-stacks-\(now)"}) as $annotations
      | [ {op: "test", path: "/metadata/generation", value: .metadata.generation},
          {op: "replace", path: "/spec", value: $spec},
          {op: "add", path: "/metadata/annotations", value: $annotations} ] | tojson
    end;

# What became of a Stack after an action, or nothing yet. Before it, there were $old_pod and $old_update.
def outcome($action; $old_pod; $old_update; $late):
  . as {Stack: {$metadata, $status}, Workspace: $workspace, Pod: $pod} | login($workspace; $pod) as $login
  | if $action != "replace-pods" and $status.lastUpdate.name != $old_update and $status.lastUpdate.generation == $metadata.generation then
      $status.lastUpdate | if .state == "succeeded" then .state else "FAILED: the update \(.state), \(.message)" end
    elif $pod == null or $pod.metadata.uid == $old_pod then
      if $late then "FAILED: it has no new pod. Run: kubectl describe stacks.pulumi.com \($metadata.name)" else empty end
    elif $login == "no-pod" then
      # The Workspace keeps the failure of a former pod until the new one is initialized.
      first(($workspace.status.conditions[]? | select(.type == "Stalled" and .lastTransitionTime >= $pod.metadata.creationTimestamp)
          | "FAILED: \(.message)"),
        (if $late then "FAILED: its pod is not ready. Run: kubectl describe pod \($pod.metadata.name)" else empty end))
    elif $action != "replace-pods" then empty
    elif $login == "stored" and ($pod | has_exchange) then
      "FAILED: Pulumi \($workspace | cli) ignores the exchange. Update workspaceTemplate.spec.image."
    else "\($login), Pulumi \($workspace | cli)" end;
