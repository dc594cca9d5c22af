// The patterns of allow policies: https://www.pulumi.com/docs/administration/concepts/oidc-issuers/

/**
 * Returns whether there is a string that two patterns match as a whole. `*` is any characters, `?` zero or one, and `.` exactly one. No
 * character escapes them.
 *
 * It takes time in proportion to both lengths. A regular expression would take hours for a pattern with thirty wildcards.
 *
 * @param wildcards of the second pattern; by default, it is a string without any.
 */
export function canBothMatch(pattern: string, other: string, wildcards = ""): boolean {
  const [steps, others] = [[...pattern], [...other]];
  const has = (step: string | undefined, which: string) => step !== undefined && which.includes(step);
  const hasOther = (step: string | undefined, which: string) => has(step, which) && has(step, wildcards);
  const width = others.length + 1;
  /** The positions in both that are reached: a set also iterates over what is added to it. */
  const reached = new Set([0]);
  for (const position of reached) {
    const [step, otherStep] = [steps[Math.floor(position / width)], others[position % width]];
    if (has(step, "*?")) reached.add(position + width);
    if (hasOther(otherStep, "*?")) reached.add(position + 1);
    if (step === undefined || otherStep === undefined) continue;
    if (step !== otherStep && !has(step, "*?.") && !hasOther(otherStep, "*?.")) continue;
    reached.add(position + (step === "*" ? 0 : width) + (hasOther(otherStep, "*") ? 0 : 1));
  }
  return reached.has(steps.length * width + others.length);
}
