// Serves a provider to Pulumi's engine by the server of the SDK, with what that lacks: the check of a provider's configuration, and
// previews of changes.

import assert from "node:assert/strict";
import { Server, type UntypedServiceImplementation } from "@grpc/grpc-js";
import * as pulumi from "@pulumi/pulumi";

/**
 * Starts to serve a provider until the process ends, which can do so once.
 *
 * @returns the port on the loopback address.
 */
export async function listen(provider: pulumi.provider.Provider): Promise<string> {
  const { log } = console;
  const { addService } = Server.prototype;
  let port = "";
  // For an engine that starts the provider itself.
  console.log = (printed) => {
    port = String(printed);
  };
  Server.prototype.addService = function (service, server) {
    addService.call(this, service, withPreviews(server));
  };
  await pulumi.provider.main(provider, []);
  console.log = log;
  Server.prototype.addService = addService;
  return port;
}

/** Answers a call of the provider protocol, as a method of the SDK's server. */
type Handler = (
  this: object,
  call: { request: { getPreview(): boolean } },
  callback: (error: unknown, response?: { setSupportspreview(supports: boolean): void }) => void,
) => void;

/**
 * Adds to the SDK's server what providers have and it lacks (@pulumi/pulumi, provider/server.js): the check of a provider's
 * configuration, and previews, which call nothing.
 */
function withPreviews(server: UntypedServiceImplementation): UntypedServiceImplementation {
  const { check, configure, create, update } = server as Record<string, Handler>;
  assert.ok(check && configure && create && update);
  const orPreview = (handler: Handler): Handler => {
    return (call, callback) =>
      handler.call(call.request.getPreview() ? { provider: PREVIEWS } : server, call, callback);
  };
  const checkConfig: Handler = (call, callback) => check.call({ provider: PREVIEWS }, call, callback);
  const configureWithPreviews: Handler = (call, callback) =>
    configure.call(server, call, (error, response) => {
      response?.setSupportspreview(true);
      callback(error, response);
    });
  return Object.assign(server, {
    checkConfig,
    configure: configureWithPreviews,
    create: orPreview(create),
    update: orPreview(update),
  });
}

/** Answers what the simulation is not asked: the check of a provider's configuration, and previews. */
const PREVIEWS: pulumi.provider.Provider = {
  version: "",

  async check(urn, _olds, news) {
    const isPulumiCloud = urn.includes("pulumi:providers:pulumiservice::");
    return { inputs: { ...news, ...(isPulumiCloud && CHECKED) } };
  },

  async create(_urn, inputs) {
    return { id: "", outs: inputs };
  },

  // What a change of the inputs does to outputs, such as to a checksum, is not emulated.
  async update(_id, _urn, olds, news) {
    return { outs: { ...olds, ...news } };
  },
};

/**
 * What the provider of Pulumi Cloud adds to its configuration: pulumi/pulumi-go-provider, infer/configuration.go and provider.go at
 * ac69bde08a7f84ee355614eb0b6c848871b37901; pulumi/pulumi-pulumiservice, provider/pkg/config/config.go at
 * dc76a0186fd9f1381646a19f2c47b59e8e8cd500. The empty access token is a secret, and that of the environment is not in it.
 */
const CHECKED = {
  "__pulumi-go-provider-infer": true,
  "__pulumi-go-provider-version": "v1.5.0",
  accessToken: { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", value: "" },
};
