import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import { EmbeddedStore } from '../../../src/store/embedded/store.ts'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { EmbeddedDirectory } from '../../support/embedded-directory.ts'
import { failureOf } from '../../support/store-fixtures.ts'
import { runKilledWriter } from '../../support/store-writer.ts'

const run = promisify(execFile)
const options = { url: 'embedded:', log: pino({ level: 'silent' }) }
const storeModule = fileURLToPath(new URL('../../../src/store/embedded/store.ts', import.meta.url))

let base: string

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'ferryfs-embedded-'))
})

afterEach(async () => {
  await rm(base, { recursive: true })
})

function objectOf(size: number, version = 1): ObjectToStore {
  return {
    value: Buffer.alloc(size, `${version} `),
    version: { epoch: 0, version },
    contentType: 'application/octet-stream',
    metadata: {},
  }
}

describe('one process at a time', () => {
  test('a second open is refused, and the refusal ends with kill -9 of the holder', async () => {
    const path = join(base, 'store')
    const holder = spawn(
      process.execPath,
      [
        '--disable-warning=ExperimentalWarning',
        '--input-type=module',
        '-e',
        `const { EmbeddedStore } = await import(${JSON.stringify(storeModule)})
         globalThis.store = await EmbeddedStore.open(${JSON.stringify(path)}, { url: 'embedded:', log: console })
         setInterval(() => globalThis.store, 1 << 30)
         console.log('open')`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    const ended = once(holder, 'exit')
    try {
      await once(holder.stdout, 'data')
      const failure = await failureOf(EmbeddedStore.open(path, options))
      expect(failure).toBeInstanceOf(UsageError)
      expect(String(failure)).toContain(`in use by process ${holder.pid}`)
    } finally {
      holder.kill('SIGKILL')
      await ended
    }
    const store = await EmbeddedStore.open(path, options)
    await store.ping()
    await store.close()
  })

  test('the same process is refused too, and not after close', async () => {
    const path = join(base, 'store')
    const store = await EmbeddedStore.open(path, options)
    expect(await failureOf(EmbeddedStore.open(path, options))).toBeInstanceOf(UsageError)
    await store.put('files', 'a', objectOf(10))
    await store.close()
    const again = await EmbeddedStore.open(path, options)
    expect(await again.get('files', 'a')).toEqual(objectOf(10))
    await again.close()
  })
})

describe('value files', () => {
  test('P2: what a killed process left half done is cleared by the next open, and only that', async () => {
    const directory = new EmbeddedDirectory(join(base, 'store', 'test'))
    for (const killAfter of [1, 30, 90]) {
      const { acknowledged } = await runKilledWriter({
        url: `embedded:${join(base, 'store')}`,
        stateDir: base,
        namespace: 'test',
        prefix: `${killAfter}/`,
        killAfter,
      })
      const store = await EmbeddedStore.open(directory.path, options)
      for (const key of acknowledged) expect(await store.get('files', key)).toBeDefined()
      expect(await directory.files()).toEqual(directory.referred())
      await store.close()
    }
  })

  test('a file that is not in the index is swept; one that came by hand outside the range is not touched', async () => {
    const directory = new EmbeddedDirectory(join(base, 'store'))
    const store = await EmbeddedStore.open(directory.path, options)
    await store.put('files', 'a', objectOf(50_000))
    const path = directory.fileOf('files', 'a') ?? ''
    await store.close()
    // As after a kill between the file and its row: the range is reserved and not settled.
    directory.withIndex((index) => index.exec('UPDATE file_ids SET reserved = 4096, settled = 0'))
    await writeFile(join(path, '..', '3ff'), 'left over')
    const again = await EmbeddedStore.open(directory.path, options)
    expect(await again.get('files', 'a')).toEqual(objectOf(50_000))
    expect(await directory.files()).toEqual([path])
    await again.close()
    // What no run of this index can have made, a later one has: the index is an older copy.
    await mkdir(join(directory.path, 'objects', '7', '7'), { recursive: true })
    await writeFile(join(directory.path, 'objects', '7', '7', '701c00'), 'not ours')
    directory.withIndex((index) => index.exec('UPDATE file_ids SET reserved = 4096, settled = 0'))
    const older = await EmbeddedStore.open(directory.path, options)
    expect(older.capabilities.damage).toContain('/objects/7/7/701c00 was stored since')
    expect(await older.get('files', 'a')).toEqual(objectOf(50_000))
    expect(await directory.files()).toEqual([path, join(directory.path, 'objects', '7', '7', '701c00')])
    await older.close()
  })

  test('replaced and deleted values leave no file and no empty directory behind', async () => {
    const directory = new EmbeddedDirectory(join(base, 'store'))
    const store = await EmbeddedStore.open(directory.path, options)
    for (let version = 0; version < 20; version += 1) {
      await Promise.all(['a', 'b', 'c'].map((key) => store.put('files', key, objectOf(40_000, version))))
    }
    await store.put('files', 'a', objectOf(10, 20))
    await store.delete('files', 'b', { epoch: 0, version: 20 })
    await store.close()
    expect(await directory.files()).toEqual(directory.referred())
    expect(directory.referred().length).toBe(1)
    expect(directory.withIndex((index) => index.prepare('SELECT count(*) AS n FROM garbage').get())).toEqual({
      n: 0,
    })
  })

  test('P1: ids of value files are never used twice, whatever became of the last run', async () => {
    const directory = new EmbeddedDirectory(join(base, 'store'))
    const seen = new Set<string>()
    for (let round = 0; round < 3; round += 1) {
      const store = await EmbeddedStore.open(directory.path, options)
      for (const key of ['a', 'b']) {
        await store.put('files', key, objectOf(40_000, round))
        const path = directory.fileOf('files', key) ?? ''
        expect(seen.has(path)).toBe(false)
        seen.add(path)
      }
      await store.close()
    }
  })
})

describe('a full disk', () => {
  test('P2, P6: a put fails with ENOSPC and leaves nothing; reads go on; it heals without a reopen', async (context) => {
    const disk = join(base, 'disk')
    await mkdir(disk)
    const mounted = await failureOf(run('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'none', disk]))
    if (mounted !== undefined) return context.skip(`a small tmpfs cannot be mounted here: ${String(mounted)}`)
    try {
      const ballast = join(disk, 'ballast')
      await writeFile(ballast, Buffer.alloc(2 * 1024 * 1024))
      const directory = new EmbeddedDirectory(join(disk, 'store'))
      const store = await EmbeddedStore.open(directory.path, options)
      const sizes = [1024 * 1024, 100_000, 20_000, 100]
      const stored: string[] = []
      for (const size of sizes) {
        for (let at = 0; ; at += 1) {
          const key = `${size}/${at}`
          const failure = await failureOf(store.put('files', key, objectOf(size)))
          if (failure === undefined) {
            stored.push(key)
            continue
          }
          expect(failure).toBeInstanceOf(StoreUnavailable)
          expect(failure).toMatchObject({ cause: { code: 'ENOSPC' }, outcomeUnknown: false })
          expect(await store.get('files', key)).toBeUndefined()
          break
        }
      }
      for (const key of stored) {
        const size = Number(key.split('/')[0])
        expect((await store.get('files', key))?.value.length).toBe(size)
      }
      expect(await directory.files()).toEqual(directory.referred())
      await unlink(ballast)
      for (const size of sizes) await store.put('files', `${size}/after`, objectOf(size))
      for (const key of stored) await store.delete('files', key, { epoch: 0, version: 1 })
      await store.close()
      const again = await EmbeddedStore.open(directory.path, options)
      const keys: string[] = []
      for await (const key of again.keys('files')) keys.push(key)
      expect(keys.sort()).toEqual(sizes.map((size) => `${size}/after`).sort())
      await again.close()
    } finally {
      await run('umount', [disk])
    }
  })
})
