import { closeSync, openSync } from 'node:fs'
import { expect, test } from 'vitest'
import { DescriptorCache } from '../../../src/sys/index.ts'

/** Closes nothing before it is told to. */
function slowClose(): {
  close: (descriptor: number) => Promise<void>
  closing: Array<PromiseWithResolvers<void>>
} {
  const closing: Array<PromiseWithResolvers<void>> = []
  const close = (descriptor: number): Promise<void> => {
    const one = Promise.withResolvers<void>()
    closing.push(one)
    return one.promise.finally(() => closeSync(descriptor))
  }
  return { close, closing }
}

const open = (): number => openSync('/dev/null', 'r')
const none = (): void => undefined

/** Whether it is so by the time that everything which can happen by itself has happened. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false
  const note = (): void => {
    settled = true
  }
  promise.then(note, note)
  await new Promise((resolve) => setImmediate(resolve))
  return settled
}

test('P6: what makes room for others is closed later, and beyond a number of them at once', () => {
  const { close, closing } = slowClose()
  const cache = new DescriptorCache(1, close)
  for (let ino = 1n; ino <= 200n; ino += 1n) cache.useSync(ino, open, none)
  expect(closing).toHaveLength(64)
  expect([cache.has(1n), cache.has(199n), cache.has(200n)]).toEqual([true, false, true])
  for (const one of closing) one.resolve()
  cache.clear()
})

test('P3: a file is let go of once every descriptor is closed: at hand, on its way out, or in use', async () => {
  const { close, closing } = slowClose()
  const cache = new DescriptorCache(1, close)
  const use = Promise.withResolvers<void>()
  const used = cache.use(1n, open, () => use.promise)
  cache.drop(1n)
  cache.useSync(1n, open, none)
  // It has to make room.
  cache.useSync(2n, open, none)
  cache.useSync(1n, open, none)
  const gone = cache.letGo(1n)
  // One that comes from here on is none of them.
  cache.useSync(1n, open, none)
  for (const one of closing.splice(0)) one.resolve()
  expect(await isSettled(gone)).toBe(false)
  use.resolve()
  await used
  for (const one of closing) one.resolve()
  await gone
  expect(cache.has(1n)).toBe(true)
  cache.clear()
  expect(cache.has(1n)).toBe(false)
})

test('P6: who waits for a descriptor to be closed is told that it takes too long', async () => {
  const { close, closing } = slowClose()
  const cache = new DescriptorCache(1, close)
  cache.useSync(1n, open, none)
  const gone = [cache.letGo(1n), cache.letGo(1n)]
  closing[0]?.reject(new Error('it does not answer'))
  for (const one of gone) await expect(one).rejects.toThrow('does not answer')
  await cache.letGo(1n)
})
