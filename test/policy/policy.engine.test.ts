import { test } from "node:test";
import { emptyStack } from "../support/engineStack";

test("x", async (t) => {
  const { pulumi, up, directory } = await emptyStack(t);
  const pack = ["--policy-pack", `${directory}/policy/start.js`];
  let r = await pulumi("preview", ...pack);
  console.log(r.exitCode, r.screen);
  r = await up(...pack);
  console.log(r.exitCode, r.screen);
  r = await pulumi("preview", ...pack);
  console.log(r.exitCode, r.screen);
  r = await pulumi("preview", "--refresh", ...pack);
  console.log(r.exitCode, r.screen);
  r = await pulumi("policy", "analyze", ...pack);
  console.log(r.exitCode, r.screen);
});
