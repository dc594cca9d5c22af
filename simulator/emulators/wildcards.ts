// Patterns with wildcards, as the policies of AWS and of Pulumi Cloud have them.

/** What a wildcard matches: any number of characters, at most one, or exactly one. */
type Meaning = "any" | "optional" | "one";

/**
 * Returns whether a pattern matches a whole value. There is no escape.
 *
 * It takes time in proportion to the length of the value and to that of the pattern. A regular expression would take hours
 * for a hostile pattern with thirty wildcards.
 *
 * @param wildcards the meaning of each wildcard; every other character matches itself.
 */
export function matchesWildcards(
  pattern: string,
  value: string,
  wildcards: Partial<Record<string, Meaning>>,
): boolean {
  const symbols = [...pattern];
  const meanings = symbols.map((symbol) => wildcards[symbol]);

  /** Marks a position of the pattern as reached, and those behind it that need no character. */
  const reach = (reached: Set<number>, position: number): void => {
    reached.add(position);
    let next = position;
    while (meanings[next] === "any" || meanings[next] === "optional") reached.add(++next);
  };

  let reached = new Set<number>();
  reach(reached, 0);
  for (const character of value) {
    const following = new Set<number>();
    for (const position of reached) {
      const meaning = meanings[position];
      if (meaning === "any") reach(following, position);
      else if (meaning !== undefined || symbols[position] === character) reach(following, position + 1);
    }
    reached = following;
  }
  return reached.has(symbols.length);
}
