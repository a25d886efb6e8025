import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(async () => {
  vi.restoreAllMocks()
  await rig.stop()
})

const COUNT = 200
/** Milliseconds by which the clock is ahead. It never goes back. */
let spent = 0

async function stored(fill: (source: string) => void, shardEntries?: number): Promise<void> {
  rig = await Rig.start({ fill, ...(shardEntries === undefined ? {} : { shardEntries }) })
  await rig.migrate()
  await rig.settle()
}

/**
 * The most objects that `verify` asked for in one turn of the event loop, where each step takes as long as a whole turn may, and the
 * store has every answer at once.
 */
async function mostInOneTurn(): Promise<number> {
  const { store } = rig.context
  const answers = new Map<string, ReturnType<typeof store.get>>()
  const get = store.get.bind(store)
  let inThisTurn = 0
  let most = 0
  vi.spyOn(store, 'get').mockImplementation((space, key, options) => {
    if (inThisTurn === 0)
      setImmediate(() => {
        inThisTurn = 0
      })
    inThisTurn += 1
    most = Math.max(most, inThisTurn)
    const answer = answers.get(`${space} ${key}`) ?? get(space, key, options)
    answers.set(`${space} ${key}`, answer)
    return answer
  })
  await rig.verify()
  most = 0
  const now = performance.now.bind(performance)
  vi.spyOn(performance, 'now').mockImplementation(() => now() + (spent += 11))
  expect((await rig.verify()).differences).toEqual([])
  expect(most).toBeGreaterThan(0)
  return most
}

// Those that are under way at once may each have an answer in the same turn.
const FEW = 20

test.each([
  ['empty files', (path: string) => writeFileSync(path, '')],
  ['symlinks', (path: string) => symlinkSync('nowhere', path)],
  ['directories', (path: string) => mkdirSync(path)],
])('P6: verify of any number of %s leaves the event loop to others', async (_, make) => {
  await stored((source) => {
    for (let index = 0; index < COUNT; index += 1) make(join(source, `n${index}`))
  })
  expect(await mostInOneTurn()).toBeLessThan(FEW)
})

test('P6: verify of the record of a large directory leaves the event loop to others', async () => {
  await stored((source) => {
    mkdirSync(join(source, 'd'))
    for (let index = 0; index < COUNT; index += 1) writeFileSync(join(source, 'd', `n${index}`), 'x')
  }, 2)
  expect(await mostInOneTurn()).toBeLessThan(FEW)
})
