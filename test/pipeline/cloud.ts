// What the pipeline's program creates in an AWS account and in Pulumi Cloud's organizations.

import { ISSUER_URL } from "../../pipeline/config";
import { type Emulator, type ResourceKind, storedKind } from "../environment/emulator";
import type { PulumiCloud } from "../environment/pulumiCloud";
import { ACCOUNT, getCluster } from "./pipeline";

type Issuer = ReturnType<PulumiCloud["list"]>[number]["registration"];

export type PipelineCloud = ReturnType<typeof startPipelineCloud>;

export const GITHUB_PROVIDER = `arn:aws:iam::${ACCOUNT}:oidc-provider/${new URL(ISSUER_URL).hostname}`;

/** Starts services that know nothing of the repository's pipeline. */
export function startPipelineCloud() {
  // OIDC issuers of Pulumi Cloud, and everything else that exists, by ID.
  const issuers = new Map<string, Issuer>();
  const stored = new Map<string, object>();
  const existing = () => [...issuers.keys(), ...stored.keys()].sort();

  /** Returns the kind of a type of resource, whose ID is `Type name`. */
  function kindOf(token: string): ResourceKind {
    const type = token.replace(/^.*:/, "");
    const identify = (inputs: object, name: string): string => {
      const { organization } = inputs as Record<string, string>;
      if (type === "OidcIssuer") return `${organization}/1`;
      return type === "OpenIdConnectProvider" ? GITHUB_PROVIDER : `${type} ${name}`;
    };
    const outputs = (id: string, inputs: object) => {
      const name = id.replace(`${type} `, "");
      const arn = type === "Role" ? `arn:aws:iam::${ACCOUNT}:role/${name}-1a2b3c4` : id;
      return { arn, name, roleId: name, ...inputs };
    };
    const store: Map<string, object> = type === "OidcIssuer" ? issuers : stored;
    return storedKind(store, identify, outputs);
  }

  const calls: Emulator["calls"] = {
    "pulumiservice:index:getCurrentUser": { answer: () => ({ username: "alice" }) },
    "aws:eks/getCluster:getCluster": { answer: (inputs) => getCluster(inputs as Record<string, string>) },
    "aws:iam/getOpenIdConnectProvider:getOpenIdConnectProvider": {
      answer() {
        if (!stored.has(GITHUB_PROVIDER)) throw new Error("finding IAM OIDC Provider by url: not found");
        return { arn: GITHUB_PROVIDER };
      },
    },
  };
  // Every type of the providers is a kind, but the stack itself is not.
  const get = (_: object, type: string) => (type.startsWith("pulumi:") ? undefined : kindOf(type));
  const resources = new Proxy<Emulator["resources"]>({}, { get });
  return { issuers, stored, resources, calls, existing };
}
