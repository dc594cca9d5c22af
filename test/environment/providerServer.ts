// Serves a provider to Pulumi's engine by the server of the SDK, with what that lacks: previews of changes.

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

/** Adds previews to the SDK's server, which lacks them (@pulumi/pulumi, provider/server.js). They call nothing. */
function withPreviews(server: UntypedServiceImplementation): UntypedServiceImplementation {
  const { configure, create, update } = server as Record<string, Handler>;
  assert.ok(configure && create && update);
  const orPreview = (handler: Handler): Handler => {
    return (call, callback) =>
      handler.call(call.request.getPreview() ? { provider: PREVIEWS } : server, call, callback);
  };
  const configureWithPreviews: Handler = (call, callback) =>
    configure.call(server, call, (error, response) => {
      response?.setSupportspreview(true);
      callback(error, response);
    });
  return Object.assign(server, {
    configure: configureWithPreviews,
    create: orPreview(create),
    update: orPreview(update),
  });
}

const PREVIEWS: pulumi.provider.Provider = {
  version: "",

  async create(_urn, inputs) {
    return { id: "", outs: inputs };
  },

  // What a change of the inputs does to outputs, such as to a checksum, is not emulated.
  async update(_id, _urn, olds, news) {
    return { outs: { ...olds, ...news } };
  },
};
