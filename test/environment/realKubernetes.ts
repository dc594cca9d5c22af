// Presents a real API server to the program, as the Kubernetes provider does: each resource is an object that is applied.

import assert from "node:assert/strict";
import { createLocalJWKSet, type JWTVerifyGetKey } from "jose";
import { createInjection, type InjectionArgs } from "../../injection";
import { type Registered, runProgram } from "../core/program";
import { requestTls } from "../support/tls";
import type { ApiServer, KubernetesObject } from "./apiServer";
import type { Emulator, ResourceKind } from "./emulator";
import { KINDS } from "./kubernetes";

/** Returns the kinds of resources that exist on the API server. Nothing waits for a Job, which no controller runs. */
export function realKubernetes(server: ApiServer): Emulator["resources"] {
  return Object.fromEntries(KINDS.map((type) => [`kubernetes:${type}`, kindOf(server, type)]));
}

/** Creates the objects that a program registers, in this order. */
export async function createAll(server: ApiServer, registered: Registered[]): Promise<void> {
  const resources = realKubernetes(server);
  for (const { type, name, inputs } of registered) await resources[type]?.create(name, inputs);
}

/** Creates the policy of `injectToken` as a stack does. */
export async function inject(
  server: ApiServer,
  name: string,
  accounts: InjectionArgs["accounts"],
): Promise<void> {
  const { registered } = await runProgram(async () => {
    createInjection(name, { accounts });
    return {};
  }, {});
  await createAll(server, registered);
}

/**
 * Returns the keys that an issuer publishes, as Pulumi Cloud reads them when the issuer is registered:
 * https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
 */
export async function publishedKeys(issuerUrl: string): Promise<JWTVerifyGetKey> {
  const read = async (url: string) => JSON.parse((await requestTls(url)).content);
  const { issuer, jwks_uri } = await read(`${issuerUrl.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (issuer !== issuerUrl) throw new Error(`the OIDC issuer ${issuerUrl} calls itself ${issuer}`);
  return createLocalJWKSet(await read(jwks_uri));
}

function kindOf(server: ApiServer, type: string): ResourceKind {
  const [group = "", kind = ""] = type.split(":");
  const apiVersion = group.replace("core/", "");
  const collection = `${kind.toLowerCase().replace(/y$/, "ie")}s`;

  function pathOf(id: string): string {
    const [name, namespace] = id.split("/").reverse();
    const api = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
    return [api, ...(namespace ? ["namespaces", namespace] : []), collection, name].join("/");
  }

  // Server-side apply, as pulumi/pulumi-kubernetes (provider/pkg/await/await.go), but with strict validation.
  async function apply(id: string, object: KubernetesObject): Promise<KubernetesObject> {
    const path = `${pathOf(id)}?fieldManager=pulumi&fieldValidation=Strict`;
    const body = { ...object, apiVersion, kind };
    const answer = await server.request("PATCH", path, body, "application/apply-patch+yaml");
    assert.ok(answer.status < 300, `${kind} ${id}: ${answer.body.message}`);
    return answer.body;
  }

  return {
    async create(_name, inputs: KubernetesObject) {
      const { namespace, name } = inputs.metadata ?? {};
      const id = [namespace, name].filter(Boolean).join("/");
      return { id, outputs: await apply(id, inputs) };
    },
    update: apply,
    async read(id) {
      const { status, body } = await server.request("GET", pathOf(id));
      return status === 404 ? undefined : body;
    },
    async delete(id) {
      await server.request("DELETE", pathOf(id));
    },
  };
}
