// The live check asks AWS STS with the real AWS CLI. AWS STS is a local HTTPS server.

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { assumeRole } from "../../accessCheck/awsSts";
import { type Run, toolRunner } from "../../accessCheck/tools";
import { emulatorCertificate, simulationDirectory } from "../../simulator/emulators/certificates";
import { type Answer, type Endpoint, respond, startEndpoint } from "../support/endpoint";
import { missingProgram } from "../support/programs";
import { ROOT } from "../support/project";
import { temporaryDirectory } from "../support/temporaryDirectory";
import { setVariables } from "../support/variables";

const missingAws = missingProgram(
  "aws",
  "https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
);

const ROLE = "arn:aws:iam::123456789012:role/pulumi-oidc-deployer";
const SESSION = "arn:aws:sts::123456789012:assumed-role/pulumi-oidc-deployer/live-access-check";
const ID_TOKEN = `${"eyJhbGciOiJSUzI1NiJ9"}.${"payload".repeat(100)}.signature`;

// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
const GRANTED = `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>
<AssumedRoleUser><Arn>${SESSION}</Arn></AssumedRoleUser>
<Credentials><SecretAccessKey>wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY</SecretAccessKey><SessionToken>SESSION</SessionToken></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;

/** https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html */
function stsError(status: number, code: string, message: string): Answer {
  const error = `<Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error>`;
  return respond(status, `<ErrorResponse>${error}</ErrorResponse>`, { "Content-Type": "text/xml" });
}

describe("with the AWS CLI, the live check", { skip: missingAws }, () => {
  const home = temporaryDirectory({ after });
  let sts: Endpoint;
  let answer: Answer;
  let restore: () => void;

  before(async () => {
    await mkdir(join(home, ".aws"));
    for (const file of ["config", "credentials"]) await writeFile(join(home, ".aws", file), "invalid");
    const certificate = await emulatorCertificate();
    sts = await startEndpoint((socket, request) => answer(socket, request), certificate);
    // What the user has for other commands does not count, except for the certificate authorities.
    restore = setVariables({
      AWS_CA_BUNDLE: join(simulationDirectory(), "ca.pem"),
      AWS_ENDPOINT_URL: "http://127.0.0.1:9",
      AWS_STS_REGIONAL_ENDPOINTS: "legacy",
      AWS_PROFILE: "other",
      HOME: home,
    });
  });
  after(async () => {
    restore();
    await sts.close();
  });
  beforeEach(() => {
    sts.requests.length = 0;
  });

  const runTool = toolRunner(new AbortController().signal, ROOT);

  function ask(stsUrl = sts.url, run = runTool) {
    return assumeRole({ region: "us-west-2", stsUrl }, ROLE, ID_TOKEN, run);
  }

  test("requests the role once, without a signature, and reads no credentials", async () => {
    answer = respond(200, GRANTED, { "Content-Type": "text/xml" });
    let printed = "";
    const run: Run = async (...args) => {
      printed += await runTool(...args);
      return printed;
    };
    assert.deepEqual(await ask(sts.url, run), { allowed: true, reason: "granted" });
    assert.equal(printed, `${SESSION}\n`);
    const [{ head, form } = assert.fail("no request"), ...others] = sts.requests;
    assert.deepEqual([form.get("WebIdentityToken"), others], [ID_TOKEN, []]);
    assert.doesNotMatch(head, /^authorization:/im);
  });

  const PART = respond(200, GRANTED.slice(0, -9));
  const UNPARSED = /^Unable to parse response \([\w :,]+\), invalid XML received\. Further .* succeed:$/;
  for (const [what, response, message] of [
    ["limits the rate", stsError(400, "Throttling", "Rate exceeded"), "Throttling: Rate exceeded"],
    ["returns a part of its credentials, which it does not show", PART, UNPARSED],
  ] satisfies [string, Answer, string | RegExp][]) {
    test(`counts a question neither as allowed nor as denied if AWS STS ${what}, and asks once`, async () => {
      answer = response;
      await assert.rejects(ask(), { message });
      assert.equal(sts.requests.length, 1);
    });
  }

  test("asks the endpoint of the region, not the global one", async (t) => {
    const proxy = await startEndpoint(respond(403, ""));
    t.after(proxy.close);
    t.after(setVariables({ HTTPS_PROXY: proxy.url, NO_PROXY: "" }));
    await assert.rejects(assumeRole({ region: "us-east-1", stsUrl: undefined }, ROLE, ID_TOKEN, runTool));
    const heads = proxy.requests.map(({ head }) => head.replace(/ HTTP.*/s, ""));
    assert.deepEqual(heads, ["CONNECT sts.us-east-1.amazonaws.com:443"]);
  });
});
