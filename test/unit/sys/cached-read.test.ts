import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { readFully } from '../../../src/content/legacy-files.ts'
import { readCached } from '../../../src/sys/index.ts'

const BYTES = Buffer.from(Array.from({ length: 10_000 }, (_, at) => at % 251))
let directory: string
let path: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-cached-'))
  path = join(directory, 'file')
  writeFileSync(path, BYTES)
})

afterEach(() => rmSync(directory, { recursive: true }))

function opened<T>(body: (descriptor: number) => T, name = path): T {
  const descriptor = openSync(name, 'r')
  try {
    return body(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

test('P1: what is in the page cache comes at once, short only where the file ends', () => {
  const buffer = Buffer.alloc(4000, 0xff)
  opened((descriptor) => {
    expect(readCached(descriptor, buffer, 100)).toEqual({ count: 4000, isAll: true })
    expect(buffer).toEqual(BYTES.subarray(100, 4100))
    expect(readCached(descriptor, buffer, 9000)).toEqual({ count: 1000, isAll: true })
    expect(buffer.subarray(0, 1000)).toEqual(BYTES.subarray(9000))
    expect(readCached(descriptor, buffer, 10_000)).toEqual({ count: 0, isAll: true })
    expect(readCached(descriptor, buffer, 20_000)).toEqual({ count: 0, isAll: true })
  })
})

test('P1: a read that fails in the cache is left to the ordinary way, which says why', async () => {
  const descriptor = openSync(directory, 'r')
  try {
    expect(readCached(descriptor, Buffer.alloc(10), 0)).toEqual({ count: 0, isAll: false })
    await expect(readFully(descriptor, Buffer.alloc(10), 0)).rejects.toMatchObject({ code: 'EISDIR' })
  } finally {
    closeSync(descriptor)
  }
})
