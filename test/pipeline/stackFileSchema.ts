// The schema of the pipeline's stack file, which editors read.

import * as v from "valibot";
import { pipelineEntries } from "../../pipeline/config";
import { fileSchema, settingsOf } from "../support/stackFileSchema";

/** Returns the schema as JSON. */
export function pipelineSchema(): string {
  const settings = settingsOf(v.object(pipelineEntries), ["PipelineSettings"]);
  return fileSchema("eks-pulumi-oidc-pipeline", settings);
}
