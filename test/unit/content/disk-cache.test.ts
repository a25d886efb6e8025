import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DiskCache } from '../../../src/content/disk-cache.ts'

let directory: string
const hashOf = (bytes: Buffer): Buffer => createHash('sha256').update(bytes).digest()
const [first, second, third] = ['first', 'second', 'third'].map((text) => Buffer.from(text)) as [
  Buffer,
  Buffer,
  Buffer,
]

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-cache-'))
})

afterEach(() => rmSync(directory, { recursive: true }))

test('P6: a disk that does not answer is asked for nothing more until it has, and is used again then', async () => {
  const cache = new DiskCache(directory, 1000, 500)
  await cache.put(hashOf(first), first)
  await cache.put(hashOf(second), second)
  expect(await cache.get(hashOf(second))).toEqual(second)
  // Who opens a FIFO waits until somebody opens its other end.
  const path = join(directory, hashOf(first).toString('hex'))
  rmSync(path)
  execFileSync('mkfifo', [path])
  expect(await cache.get(hashOf(first))).toBeUndefined()
  expect(await cache.get(hashOf(second))).toBeUndefined()
  await cache.put(hashOf(third), third)
  expect(readdirSync(directory)).toHaveLength(2)
  closeSync(openSync(path, 'w'))
  while ((await cache.get(hashOf(second))) === undefined)
    await new Promise((resolve) => setImmediate(resolve))
  await cache.put(hashOf(third), third)
  expect(await cache.get(hashOf(third))).toEqual(third)
})
