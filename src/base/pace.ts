// What one turn of the event loop may take before those who wait have their turn.
const BUDGET_MS = 10

let resumedAt = performance.now()

/**
 * To be awaited in every loop whose length a user, the volume or the store decides (P6): lets the others have a turn of the
 * event loop where it has been busy for longer than the budget, and costs nothing before.
 */
export async function giveWay(): Promise<void> {
  if (performance.now() - resumedAt < BUDGET_MS) return
  await new Promise((resolve) => setImmediate(resolve))
  resumedAt = performance.now()
}
