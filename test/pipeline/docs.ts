// Writes the schema of the pipeline's stack file, which editors read: `npm run docs` runs it.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { pipelineEntries } from "../../pipeline/config";
import { ROOT } from "../support/project";
import { fileSchema, settingsOf } from "../support/stackFileSchema";

const settings = settingsOf(v.object(pipelineEntries), ["PipelineSettings"]);
writeFileSync(join(ROOT, "pipeline", "stack.schema.json"), fileSchema("eks-pulumi-oidc-pipeline", settings));
