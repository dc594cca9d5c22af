// How much is asked at the same time.

const AT_ONCE = 8;

/**
 * Calls an asynchronous function for each item, at most eight at a time.
 *
 * @returns the results in the order of the items.
 * @throws what the first failed call throws. The others go on until they end by themselves.
 */
export async function mapEightAtOnce<Item, Result>(
  items: Item[],
  map: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  // All workers take from the same iterator.
  const waiting = items.entries();
  async function work(): Promise<void> {
    for (const [index, item] of waiting) results[index] = await map(item);
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return results;
}
