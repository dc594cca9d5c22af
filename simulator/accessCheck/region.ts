// The name of an AWS region, which becomes a part of host names and an option of the AWS CLI.

/** Also matches a region that is newer than this project. */
const REGION_NAME = /^[a-z0-9-]+$/;

/** @throws Error if a region from a stack's settings or the environment cannot be the name of an AWS region. */
export function checkRegion(region: string): void {
  if (REGION_NAME.test(region)) return;
  throw new Error(
    `The region is ${JSON.stringify(region)}, which is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}
