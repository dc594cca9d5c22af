// AWS partitions with their regions, from botocore's table, which the AWS CLI uses:
// https://github.com/boto/botocore/blob/develop/botocore/data/partitions.json

import { closest } from "fastest-levenshtein";

/** A group of regions with its own domain, such as China's. */
interface Partition {
  /** What the name of every region of the partition matches, also of one that is newer than this table. */
  shape: RegExp;
  dnsSuffix: string;
  /** The regions that are known. */
  regions: string[];
}

const PARTITIONS: Partition[] = [
  {
    shape: /^(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+$/,
    dnsSuffix: "amazonaws.com",
    regions: [
      "af-south-1",
      "ap-east-1",
      "ap-east-2",
      "ap-northeast-1",
      "ap-northeast-2",
      "ap-northeast-3",
      "ap-south-1",
      "ap-south-2",
      "ap-southeast-1",
      "ap-southeast-2",
      "ap-southeast-3",
      "ap-southeast-4",
      "ap-southeast-5",
      "ap-southeast-6",
      "ap-southeast-7",
      "ca-central-1",
      "ca-west-1",
      "eu-central-1",
      "eu-central-2",
      "eu-north-1",
      "eu-south-1",
      "eu-south-2",
      "eu-west-1",
      "eu-west-2",
      "eu-west-3",
      "il-central-1",
      "me-central-1",
      "me-south-1",
      "mx-central-1",
      "sa-east-1",
      "us-east-1",
      "us-east-2",
      "us-west-1",
      "us-west-2",
    ],
  },
  {
    shape: /^cn-\w+-\d+$/,
    dnsSuffix: "amazonaws.com.cn",
    regions: ["cn-north-1", "cn-northwest-1"],
  },
  {
    shape: /^eusc-de-\w+-\d+$/,
    dnsSuffix: "amazonaws.eu",
    regions: ["eusc-de-east-1"],
  },
  {
    shape: /^us-iso-\w+-\d+$/,
    dnsSuffix: "c2s.ic.gov",
    regions: ["us-iso-east-1", "us-iso-west-1"],
  },
  {
    shape: /^us-isob-\w+-\d+$/,
    dnsSuffix: "sc2s.sgov.gov",
    regions: ["us-isob-east-1", "us-isob-west-1"],
  },
  {
    shape: /^eu-isoe-\w+-\d+$/,
    dnsSuffix: "cloud.adc-e.uk",
    regions: ["eu-isoe-west-1"],
  },
  {
    shape: /^us-isof-\w+-\d+$/,
    dnsSuffix: "csp.hci.ic.gov",
    regions: ["us-isof-east-1", "us-isof-south-1"],
  },
  {
    shape: /^us-gov-\w+-\d+$/,
    dnsSuffix: "amazonaws.com",
    regions: ["us-gov-east-1", "us-gov-west-1"],
  },
];

/**
 * Returns the URL of AWS STS in a region.
 *
 * @throws Error if the region's name is none that AWS could have, before it becomes the name of a host.
 */
export function stsEndpoint(region: string): string {
  return `https://sts.${region}.${partitionOf(region).dnsSuffix}`;
}

/**
 * Returns the known region that is closest to a name; undefined if the name is known.
 *
 * @throws Error if the region's name is none that AWS could have.
 */
export function similarRegion(region: string): string | undefined {
  const { regions } = partitionOf(region);
  return regions.includes(region) ? undefined : closest(region, regions);
}

function partitionOf(region: string): Partition {
  const partition = PARTITIONS.find(({ shape }) => shape.test(region));
  if (partition) return partition;
  throw new Error(
    `${JSON.stringify(region)} is not the name of an AWS region. Set aws:region to one, such as us-west-2.`,
  );
}
