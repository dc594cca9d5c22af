// The names of AWS regions.

import { Region } from "@pulumi/aws/types/enums";
import { closest } from "fastest-levenshtein";

/** What every name matches, also that of a region that is newer than the provider. It cannot become another host. */
const NAME = /^[a-z]+(-[a-z]+)+-\d+$/;

/** @throws Error if the region's name is none that AWS could have. */
export function checkRegion(region: string): void {
  if (NAME.test(region)) return;
  throw new Error(
    `${JSON.stringify(region)} is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}

/**
 * Returns the known region that is closest to a name; undefined if the name is known.
 *
 * @throws Error if the region's name is none that AWS could have.
 */
export function similarRegion(region: string): string | undefined {
  checkRegion(region);
  const regions: string[] = Object.values(Region);
  return regions.includes(region) ? undefined : closest(region, regions);
}
