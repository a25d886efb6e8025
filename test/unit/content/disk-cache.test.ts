import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
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

const LARGE = Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7 + (at >> 8)) & 255))

/** It was put, and found right as a whole. */
async function cacheWithLarge(): Promise<{ cache: DiskCache; path: string }> {
  const cache = new DiskCache(directory, 1_000_000)
  await cache.put(hashOf(LARGE), LARGE)
  expect((await cache.get(hashOf(LARGE)))?.equals(LARGE)).toBe(true)
  return { cache, path: join(directory, hashOf(LARGE).toString('hex')) }
}

test('P1: any part of what was found right is those bytes, the first time and again', async () => {
  const { cache } = await cacheWithLarge()
  const stretch = fc.tuple(fc.nat(LARGE.length - 1), fc.integer({ min: 1, max: 40_000 }))
  await fc.assert(
    fc.asyncProperty(stretch, async ([start, length]) => {
      const end = Math.min(LARGE.length, start + length)
      for (let times = 0; times < 2; times += 1)
        expect((await cache.part(hashOf(LARGE), start, end))?.equals(LARGE.subarray(start, end))).toBe(true)
    }),
  )
})

test('P1: nothing is given in parts that this process has not found right as a whole', async () => {
  await cacheWithLarge()
  const another = new DiskCache(directory, 1_000_000)
  expect(await another.part(hashOf(LARGE), 0, 10)).toBeUndefined()
  expect(await another.part(hashOf(first), 0, 1)).toBeUndefined()
})

test.each([
  ['has a flipped bit', false, (path: string) => flipBitAt(path, 50_000)],
  ['has a flipped bit', true, (path: string) => flipBitAt(path, 50_000)],
  ['was cut', false, (path: string) => truncateSync(path, 50_000)],
  ['was cut', true, (path: string) => truncateSync(path, 50_000)],
  ['is gone', false, (path: string) => rmSync(path)],
])('P1: a part of a file that %s since is not given; parts read before: %s', async (_, before, damage) => {
  const { cache, path } = await cacheWithLarge()
  if (before) await cache.part(hashOf(LARGE), 0, 10)
  damage(path)
  expect(await cache.part(hashOf(LARGE), 49_000, 51_000)).toBeUndefined()
  expect(await cache.get(hashOf(LARGE))).toBeUndefined()
})

function flipBitAt(path: string, offset: number): void {
  const bytes = readFileSync(path)
  bytes[offset] = (bytes[offset] ?? 0) ^ 1
  writeFileSync(path, bytes)
}

test('P6: what lies in it and is no file keeps nobody from the rest', async () => {
  await new DiskCache(directory, 1000).put(hashOf(first), first)
  const place = (bytes: Buffer): string => join(directory, hashOf(bytes).toString('hex'))
  mkdirSync(place(second))
  symlinkSync('/nowhere/else', place(third))
  execFileSync('mkfifo', [join(directory, 'f'.repeat(64))])
  const cache = new DiskCache(directory, 1000)
  expect(cache.bytes).toBe(first.length)
  for (const bytes of [second, third]) await cache.put(hashOf(bytes), bytes)
  expect(await cache.get(hashOf(first))).toEqual(first)
  expect(await cache.get(hashOf(second))).toBeUndefined()
  expect(await cache.get(hashOf(third))).toEqual(third)
})
