import { step } from './turns.ts'

// What one turn of the event loop may take before those who wait have their turn.
const BUDGET_MS = 10

let resumedAt = performance.now()
const waiting: Array<() => void> = []

/**
 * To be awaited in every loop whose length a user, the volume or the store decides (P6): lets the others have a turn of the
 * event loop where it has been busy for longer than the budget, and costs nothing before. However many such loops are under
 * way, each turn is given to one of them.
 */
export async function giveWay(): Promise<void> {
  step()
  if (performance.now() - resumedAt < BUDGET_MS) return
  await new Promise<void>((resolve) => {
    waiting.push(resolve)
    if (waiting.length === 1) setImmediate(resumeOne)
  })
  step()
}

function resumeOne(): void {
  // Armed before: who is resumed may give way again in this very turn.
  if (waiting.length > 1) setImmediate(resumeOne)
  resumedAt = performance.now()
  waiting.shift()?.()
}
