// A proxy before the API of the emulated Pulumi Cloud, which misbehaves as a test says.

import { text } from "node:stream/consumers";
import { listen } from "../../simulator/pulumiCloud";

interface Forwarded {
  status: number;
  content: string;
}

/**
 * Replies to a request in place of Pulumi Cloud. A function that throws closes the connection: the answer is lost.
 *
 * @param call such as `GET /api/user`.
 * @param forward sends the request on, with its content or another one, and returns the reply.
 * @param content what the request contains.
 */
export type Misbehavior = (
  call: string,
  forward: (content?: string) => Promise<Forwarded>,
  content: string,
) => Forwarded | undefined | Promise<Forwarded | undefined>;

/** A page of a proxy, or of a load balancer. */
export function page(status: number): Forwarded {
  return { status, content: `<html><title>${status}</title></html>` };
}

/**
 * Starts a proxy on a free port of the loopback address.
 *
 * @param misbehave is asked first; what it does not reply to is forwarded.
 */
export function startProxy(origin: string, misbehave: Misbehavior) {
  return listen(async (request, response) => {
    const { method = "", url = "", headers } = request;
    const received = await text(request);
    const forward = async (content = received) => {
      const reply = await fetch(origin + url, {
        method,
        headers: {
          authorization: headers.authorization ?? "",
          "content-type": headers["content-type"] ?? "",
        },
        ...(content !== "" && { body: content }),
      });
      return { status: reply.status, content: await reply.text() };
    };
    // https://www.pulumi.com/docs/reference/cloud-rest-api/ asks for these headers.
    const isPulumi = /^application\/vnd\.pulumi\+\d+$/.test(headers.accept ?? "");
    const isJson = headers["content-type"] === "application/json";
    if (url !== "/api/oauth/token" && !(isPulumi && isJson)) {
      response.writeHead(400).end('{"code": 400, "message": "Bad Request: headers"}');
      return;
    }
    try {
      const reply = (await misbehave(`${method} ${url}`, forward, received)) ?? (await forward());
      response.writeHead(reply.status).end(reply.content);
    } catch {
      response.destroy();
    }
  });
}
