import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, globSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'

const MODULE = fileURLToPath(new URL('../../../src/store/embedded/store.ts', import.meta.url))
const LARGE = 100_000

let base: string

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'ferryfs-embedded-'))
})

afterEach(async () => {
  await rm(base, { recursive: true })
})

/** A process that stores a large object twice and dies at the point, in the second round. */
async function dieAt(point: string, directory: string): Promise<void> {
  const script = `
    const { EmbeddedStore } = await import(${JSON.stringify(MODULE)})
    const store = await EmbeddedStore.open(${JSON.stringify(directory)}, { url: 'embedded:', log: console })
    for (const version of [1, 2])
      await store.put('files', 'key', {
        value: Buffer.alloc(${LARGE}, String(version)), version: { epoch: 1, version },
        contentType: 'text/plain', metadata: {},
      })
    setInterval(() => store, 1 << 30)`
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, FERRYFS_FAULT: point } },
  )
  const [, signal] = await once(child, 'exit')
  expect(signal).toBe('SIGKILL')
}

test.each([
  ['store.embedded.value-written:2', '1'],
  ['store.embedded.committed', '2'],
  ['store.embedded.discarded', '2'],
])('P2: at %s the object is one or the other, whole, and no file is left over', async (point, expected) => {
  const directory = join(base, 'store')
  await dieAt(point, directory)
  const store = await EmbeddedStore.open(directory, { url: 'embedded:', log: pino({ level: 'silent' }) })
  const object = await store.get('files', 'key')
  expect(object?.value.equals(Buffer.alloc(LARGE, expected))).toBe(true)
  await store.close()
  expect(valuesIn(directory)).toBe(1)
})

// What a killed process committed is not on the disk yet: the power may go a moment after the next start.
test('P2: what a killed process left goes only once the index that does without it is flushed', async () => {
  const directory = join(base, 'store')
  await dieAt('store.embedded.committed', directory)
  const there: number[] = []
  const flush = Database.prototype.flush
  const flushes = vi.spyOn(Database.prototype, 'flush').mockImplementation(async function (this: Database) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    there.push(valuesIn(directory))
    await flush.call(this)
  })
  const store = await EmbeddedStore.open(directory, { url: 'embedded:', log: pino({ level: 'silent' }) })
  expect(there[0]).toBe(2)
  expect(valuesIn(directory)).toBe(1)
  flushes.mockRestore()
  await store.close()
})

// The number of the state (state-number.ts) and those of values tell an older copy of the index: no crash may look like one.
test.each([
  ['store.embedded.state-raised', false],
  ['store.embedded.value-written', true],
  ['store.embedded.value-written:2', true],
  ['store.embedded.committed', true],
])('P6: after a crash at %s the index is no older copy of itself', async (point, isTold) => {
  const directory = join(base, 'store')
  await dieAt(point, directory)
  expect(existsSync(join(directory, 'state-number'))).toBe(isTold)
  const options = { url: 'embedded:', log: pino({ level: 'silent' }) }
  for (const open of [EmbeddedStore.openToRead, EmbeddedStore.open, EmbeddedStore.open]) {
    const store = await open(directory, options)
    expect(store.capabilities.damage).toBeUndefined()
    if (open === EmbeddedStore.open)
      await store.put('files', 'key', {
        value: Buffer.alloc(LARGE),
        version: { epoch: 2, version: 1 },
        contentType: 'text/plain',
        metadata: {},
      })
    await store.close()
  }
  expect(valuesIn(directory)).toBe(1)
})

function valuesIn(directory: string): number {
  const found = globSync('**/*', { cwd: join(directory, 'objects'), withFileTypes: true })
  return found.filter((entry) => entry.isFile()).length
}
