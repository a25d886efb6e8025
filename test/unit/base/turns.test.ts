import { setImmediate as nextTurn } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { giveWay } from '../../../src/base/pace.ts'
import { step, type Turn, watchTurns, within } from '../../../src/base/turns.ts'

let unwatch: () => void = () => undefined
afterEach(() => unwatch())

function watched(): Turn[] {
  const turns: Turn[] = []
  unwatch = watchTurns((turn) => turns.push(turn))
  return turns
}

function keepLoop(milliseconds: number): void {
  const until = performance.now() + milliseconds
  while (performance.now() < until);
}

it('P6 a turn of the event loop is measured, with the name of what took the longest of it', async () => {
  const turns = watched()
  within('somebody short', () => step())
  within(
    () => 'somebody long',
    () => keepLoop(30),
  )
  within('somebody else', () => step())
  await nextTurn()
  expect(turns).toHaveLength(1)
  expect(turns[0]).toMatchObject({ doing: 'somebody long', stack: undefined })
  expect(turns[0]?.milliseconds).toBeGreaterThanOrEqual(30)
  expect(turns[0]?.doingMilliseconds).toBeGreaterThanOrEqual(30)
})

it('P6 what goes on after a wait is told under the name that it began with', async () => {
  const turns = watched()
  await within('a long way', async () => {
    await nextTurn()
    step()
    keepLoop(120)
    step()
  })
  await nextTurn()
  const longest = turns.find(({ milliseconds }) => milliseconds > 100)
  expect(longest?.doing).toBe('a long way')
  expect(longest?.stack).toContain('turns.test.ts')
})

it('P6 loops that give way get one turn each, not all of them the same one', async () => {
  const turns = watched()
  const loop = async (): Promise<void> => {
    for (let rounds = 0; rounds < 4; rounds += 1) {
      keepLoop(11)
      await giveWay()
    }
  }
  keepLoop(11)
  await giveWay()
  turns.length = 0
  await Promise.all(Array.from({ length: 8 }, () => within('one of eight', loop)))
  await nextTurn()
  // The first turn begins all of them.
  const [, ...later] = turns.map(({ cpuMilliseconds }) => cpuMilliseconds)
  expect(Math.max(...later)).toBeLessThan(40)
})

it('P6 nothing is measured where nobody watches', async () => {
  const turns = watched()
  unwatch()
  within('somebody', () => keepLoop(1))
  await nextTurn()
  expect(turns).toHaveLength(0)
})
