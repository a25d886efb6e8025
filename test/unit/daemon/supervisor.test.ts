import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HeldDescriptors } from '../../../src/daemon/held-descriptors.ts'
import { onLines } from '../../../src/daemon/lines.ts'
import { isFromWorker } from '../../../src/daemon/messages.ts'
import { probePath } from '../../../src/daemon/probe.ts'
import { restartDelay } from '../../../src/daemon/supervisor.ts'

let directory: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-supervisor-'))
})

afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

describe('P7: a worker that died is replaced', () => {
  it('at once, until it dies quickly again and again; then ever later, up to a bound', () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8].map(restartDelay)).toEqual([0, 0, 0, 0, 0, 250, 500, 1000])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), (deaths) => {
        expect(restartDelay(deaths)).toBeLessThanOrEqual(restartDelay(deaths + 1))
        expect(restartDelay(deaths)).toBeLessThanOrEqual(30_000)
      }),
    )
  })
})

describe('P7: held descriptors', () => {
  it('keep the content of an unlinked file, for reading and writing', async () => {
    const held = new HeldDescriptors()
    const path = join(directory, 'file')
    const descriptor = openSync(path, 'w')
    writeSync(descriptor, 'before')
    await held.hold('a', `/proc/${process.pid}/fd/${descriptor}`)
    rmSync(path)
    closeSync(descriptor)
    const { a = '' } = held.list()
    expect(readFileSync(a, 'utf8')).toBe('before')
    writeFileSync(a, 'after')
    expect(readFileSync(a, 'utf8')).toBe('after')
    held.drop('a')
    held.drop('a')
    expect(held.list()).toEqual({})
  })

  it('the same id again replaces; a path that is gone leaves the old one', async () => {
    const held = new HeldDescriptors()
    for (const name of ['one', 'two']) {
      writeFileSync(join(directory, name), name)
      await held.hold('a', join(directory, name))
    }
    expect(readFileSync(held.list().a ?? '', 'utf8')).toBe('two')
    await expect(held.hold('a', join(directory, 'three'))).rejects.toThrow('ENOENT')
    expect(readFileSync(held.list().a ?? '', 'utf8')).toBe('two')
    held.dropAll()
    expect(held.list()).toEqual({})
  })

  it('hold directories too, for reading', async () => {
    const held = new HeldDescriptors()
    await held.hold('d', directory)
    expect(Object.keys(held.list())).toEqual(['d'])
    held.dropAll()
  })
})

describe('lines of a stream', () => {
  it('come out whole however the stream is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'grapheme' })),
        fc.integer({ min: 1, max: 7 }),
        async (texts, size) => {
          const lines = texts.map((text) => text.replaceAll('\n', ' '))
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
          const stream = new PassThrough()
          const seen: string[] = []
          onLines(stream, 1000, (line) => seen.push(line))
          for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size))
          await new Promise<void>((resolve) => {
            stream.once('end', resolve)
            stream.end()
          })
          expect(seen).toEqual(lines)
        },
      ),
      { numRuns: 50 },
    )
  })

  it('P6: a stream without line feeds is handed over in parts', async () => {
    const stream = new PassThrough()
    const seen: string[] = []
    onLines(stream, 10, (line) => seen.push(line))
    stream.write('x'.repeat(25))
    await new Promise<void>((resolve) => {
      stream.once('end', resolve)
      stream.end('rest')
    })
    expect(seen.join('')).toBe(`${'x'.repeat(25)}rest`)
    expect(seen.length).toBeGreaterThan(1)
  })
})

describe('looking at a path from another process', () => {
  it('tells directories, files and what is not there', async () => {
    writeFileSync(join(directory, 'file'), '')
    expect(await probePath(directory, 10_000)).toMatchObject({ kind: 'directory', realPath: directory })
    expect(await probePath(join(directory, 'file'), 10_000)).toMatchObject({ kind: 'other' })
    expect(await probePath(join(directory, 'none'), 10_000)).toEqual({ kind: 'error', code: 'ENOENT' })
    expect(await probePath(join(directory, 'file', 'x'), 10_000)).toEqual({ kind: 'error', code: 'ENOTDIR' })
  })

  it('P6: gives up in time', async () => {
    expect(await probePath(directory, 0)).toEqual({ kind: 'hung' })
  })
})

it('what is no message of a worker is told apart', () => {
  expect(isFromWorker({ type: 'ready' })).toBe(true)
  for (const other of [undefined, null, 7, 'ready', {}, { type: 'start' }])
    expect(isFromWorker(other)).toBe(false)
})
