// In which region, and at which endpoint, AWS STS is asked.

import type { View } from "./components";
import type { Plan } from "./plan";
import { shellQuoted } from "./terminal";
import { type Value, valueAt } from "./values";

export interface AwsSettings {
  region: string;
  /** AWS_ENDPOINT_URL_STS; undefined for the endpoint of the region. */
  stsUrl: string | undefined;
}

/**
 * Reads the region of a component's AWS provider, of the stack, or of the environment, and the STS endpoint of the environment.
 *
 * @throws Error if the region or the endpoint is not usable.
 */
export function readAws({ providers }: View, { config, stack }: Plan): AwsSettings {
  const { AWS_REGION, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_STS } = process.env;
  const ofProvider = valueAt(providers.get("aws")?.[0]?.inputs, "region");
  const regions: (Value | undefined)[] = [ofProvider, config["aws:region"], AWS_REGION, AWS_DEFAULT_REGION];
  const region = regions.find((it) => typeof it === "string" && it !== "");
  if (typeof region !== "string") {
    const option = `--stack ${shellQuoted(stack)}`;
    throw new Error(`The region is not set. To set it: pulumi config set aws:region REGION ${option}`);
  }
  checkRegion(region);

  const stsUrl = AWS_ENDPOINT_URL_STS || undefined;
  if (stsUrl === undefined || stsUrl.startsWith("https://")) return { region, stsUrl };
  throw new Error(`AWS_ENDPOINT_URL_STS is ${stsUrl}. Set it to an https URL: ID tokens are sent there.`);
}

/** Also matches a region that is newer than this project. */
const REGION_NAME = /^[a-z0-9-]+$/;

/** @throws Error if a region from a stack's settings or the environment cannot be the name of an AWS region. */
export function checkRegion(region: string): void {
  if (REGION_NAME.test(region)) return;
  throw new Error(
    `The region is ${JSON.stringify(region)}, which is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}
