import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir, uptime } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Database, type DatabaseOptions } from '../../../src/base/database.ts'
import { FRAME_BYTES, HEADER_BYTES } from '../../../src/base/wal.ts'
import { Witness } from '../../../src/base/witness.ts'
import { Random } from '../../support/rig/random.ts'

const OPTIONS: DatabaseOptions = {
  applicationId: 7,
  format: 1,
  schema: 'CREATE TABLE rows (id INTEGER PRIMARY KEY, value TEXT)',
}
const BESIDE = ['', '-wal', '-shm', '-witness', '-sums']

let directory = ''
const opened: Database[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-damaged-log-'))
})

afterEach(async () => {
  for (const database of opened.splice(0)) await database.close()
  rmSync(directory, { recursive: true })
})

function open(name: string, repairs: string[] = []): Database {
  const database = Database.open(join(directory, name), {
    ...OPTIONS,
    onRepaired: (what) => repairs.push(what),
  })
  opened.push(database)
  return database
}

const add = (database: Database, value: string): void =>
  database.transaction(() => {
    database.prepare('INSERT INTO rows (value) VALUES (?)').run(value)
  })

const count = (database: Database): unknown => database.prepare('SELECT count(*) AS n FROM rows').get()?.n

/** What a kill leaves of it, under another name. */
function killed(name: string, to: string): void {
  for (const suffix of BESIDE) {
    rmSync(join(directory, to + suffix), { force: true })
    if (existsSync(join(directory, name + suffix)))
      copyFileSync(join(directory, name + suffix), join(directory, to + suffix))
  }
}

function flip(path: string, bit: number): void {
  const bytes = readFileSync(path)
  const at = Math.floor(bit / 8)
  bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8))
  const descriptor = openSync(path, 'r+')
  writeSync(descriptor, bytes, at, 1, at)
  closeSync(descriptor)
}

async function withCommits(commits: number): Promise<Database> {
  const database = open('a.db')
  for (let index = 0; index < commits; index += 1) add(database, `${index} ${'x'.repeat(index * 37)}`)
  await database.flush()
  // It is written behind the flush, which does not wait for it.
  await vi.waitFor(() =>
    expect(Witness.read(join(directory, 'a.db-witness')).claim?.frames).toBeGreaterThan(commits - 1),
  )
  return database
}

describe('P2: one flipped bit in the log', () => {
  test('takes nothing back after a kill: it is put right', async () => {
    await withCommits(20)
    const random = new Random(7)
    const bytes = readFileSync(join(directory, 'a.db-wal'))
    const frames = (bytes.length - HEADER_BYTES) / FRAME_BYTES
    // Bits of the log's header, of frames' headers, of the last words of a page, and one in each frame.
    const bits = Array.from({ length: HEADER_BYTES }, (_, byte) => byte * 8 + random.below(8))
    for (const frame of [0, 10, frames - 1]) {
      const start = (HEADER_BYTES + frame * FRAME_BYTES) * 8
      for (let byte = 0; byte < 24; byte += 2) bits.push(start + byte * 8 + random.below(16))
      bits.push(start + FRAME_BYTES * 8 - 1, start + FRAME_BYTES * 8 - 40)
    }
    for (let frame = 0; frame < frames; frame += 1)
      bits.push((HEADER_BYTES + frame * FRAME_BYTES) * 8 + random.below(FRAME_BYTES * 8))
    let repaired = 0
    for (const bit of bits) repaired += (await isPutRight(bit, 20)) ? 1 : 0
    expect(repaired / bits.length).toBeGreaterThan(0.9)
  })

  test('takes nothing back after a power cut, in what was flushed', async () => {
    await withCommits(10)
    const flushed = readFileSync(join(directory, 'a.db-wal')).length
    for (let byte = 40; byte < flushed; byte += 1999) await isPutRight(byte * 8 + (byte % 8), 10, true)
  })
})

/** False where the checksums do not tell which bit it was: then it is known that something is lost. */
async function isPutRight(bit: number, rows: number, powerCut = false): Promise<boolean> {
  killed('a.db', 'b.db')
  if (powerCut) rmSync(join(directory, 'b.db-shm'))
  flip(join(directory, 'b.db-wal'), bit)
  const repairs: string[] = []
  const database = open('b.db', repairs)
  const isRight = database.lost === undefined
  if (isRight) expect([count(database), repairs.length], `bit ${bit}`).toEqual([rows, 1])
  await database.close()
  return isRight
}

describe('P2: a log that lacks what was committed', () => {
  const damages: Record<string, (log: string) => void> = {
    'is cut': (log) => truncateSync(log, HEADER_BYTES + 12 * FRAME_BYTES),
    'is empty': (log) => truncateSync(log, 0),
    'is missing': (log) => rmSync(log),
    'has zeros in it': (log) => {
      const bytes = readFileSync(log)
      bytes.fill(0, HEADER_BYTES + 12 * FRAME_BYTES + 1000, HEADER_BYTES + 12 * FRAME_BYTES + 1512)
      writeFileSync(log, bytes)
    },
  }
  for (const [name, damage] of Object.entries(damages)) {
    test(`because it ${name} is found out after a kill, and not forgotten`, async () => {
      const first = await withCommits(20)
      add(first, 'not flushed')
      killed('a.db', 'b.db')
      damage(join(directory, 'b.db-wal'))
      const database = open('b.db')
      expect(database.lost).toBeDefined()
      expect(count(database)).toBeLessThan(21)
      killed('b.db', 'c.db')
      const again = open('c.db')
      expect(again.lost).toEqual(database.lost)
      again.forgetLost()
      add(again, 'more')
      await again.flush()
      killed('c.db', 'd.db')
      expect(open('d.db').lost).toBeUndefined()
    })

    test(`because it ${name} is found out after a power cut where it was flushed`, async () => {
      await withCommits(20)
      killed('a.db', 'b.db')
      rmSync(join(directory, 'b.db-shm'))
      damage(join(directory, 'b.db-wal'))
      expect(open('b.db').lost).toBeDefined()
    })
  }

  test('behind the last flush is what a power cut may take', async () => {
    const first = await withCommits(10)
    const flushed = readFileSync(join(directory, 'a.db-wal')).length
    add(first, 'more')
    killed('a.db', 'b.db')
    rmSync(join(directory, 'b.db-shm'))
    truncateSync(join(directory, 'b.db-wal'), flushed)
    const database = open('b.db')
    expect([count(database), database.lost]).toEqual([10, undefined])
  })

  test('says which pages it changed, where the damage does not hide that', async () => {
    await withCommits(20)
    killed('a.db', 'b.db')
    const log = readFileSync(join(directory, 'b.db-wal'))
    log.fill(0, HEADER_BYTES + 12 * FRAME_BYTES + 1000, HEADER_BYTES + 12 * FRAME_BYTES + 1512)
    writeFileSync(join(directory, 'b.db-wal'), log)
    expect(open('b.db').lost?.pages).toEqual(expect.arrayContaining([expect.any(Number)]))
  })

  test('is nothing where it was folded in before it was damaged', async () => {
    const first = await withCommits(20)
    first.foldLog()
    killed('a.db', 'b.db')
    const log = readFileSync(join(directory, 'b.db-wal'))
    log.fill(0, HEADER_BYTES + 2 * FRAME_BYTES + 1000, HEADER_BYTES + 2 * FRAME_BYTES + 1512)
    writeFileSync(join(directory, 'b.db-wal'), log)
    const database = open('b.db')
    expect([count(database), database.lost]).toEqual([20, undefined])
    expect(database.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
  })

  test('is nothing after a file was closed', async () => {
    await (await withCommits(5)).close()
    const database = open('a.db')
    expect([count(database), database.lost]).toEqual([5, undefined])
  })
})

describe('P2: a log that lacks what was committed, beside a witness that is gone', () => {
  const gone: Record<string, (witness: string) => void> = {
    missing: (witness) => rmSync(witness),
    empty: (witness) => truncateSync(witness, 0),
    rotten: (witness) => writeFileSync(witness, Buffer.alloc(8192, 'x')),
  }
  const beforeBoot = new Date(Date.now() - (uptime() + 3600) * 1000)

  async function cut(remove: (witness: string) => void, frames: number): Promise<Database> {
    await withCommits(20)
    killed('a.db', 'b.db')
    remove(join(directory, 'b.db-witness'))
    truncateSync(join(directory, 'b.db-wal'), HEADER_BYTES + frames * FRAME_BYTES)
    return open('b.db')
  }

  test.each(Object.entries(gone))('(%s) is known by the index of the log after a kill', async (_, remove) => {
    const database = await cut(remove, 12)
    expect(database.lost?.frames).toBeGreaterThan(0)
    killed('b.db', 'c.db')
    expect(open('c.db').lost).toEqual(database.lost)
  })

  test.each(Object.entries(gone))('(%s) may lack anything after a power cut', async (_, remove) => {
    await withCommits(20)
    killed('a.db', 'b.db')
    remove(join(directory, 'b.db-witness'))
    // What the disk has of the index is older than the log.
    utimesSync(join(directory, 'b.db-shm'), beforeBoot, beforeBoot)
    const database = open('b.db')
    expect(database.lost).toEqual({ frames: 0 })
    expect(count(database)).toBe(20)
    database.forgetLost()
    killed('b.db', 'c.db')
    expect(open('c.db').lost).toBeUndefined()
  })

  test('and an index that is gone as well: nobody can tell', async () => {
    const database = await cut((witness) => {
      rmSync(witness)
      rmSync(witness.replace('-witness', '-shm'))
    }, 12)
    expect(database.lost).toEqual({ frames: 0 })
  })

  test('is nothing where the index says that the log is whole', async () => {
    await withCommits(20)
    killed('a.db', 'b.db')
    rmSync(join(directory, 'b.db-witness'))
    const database = open('b.db')
    expect([count(database), database.lost]).toEqual([20, undefined])
  })

  test('is told where the log went with the witness, as nobody can tell that from a file that was closed', async () => {
    await withCommits(20)
    killed('a.db', 'b.db')
    for (const suffix of ['-witness', '-wal', '-shm']) rmSync(join(directory, `b.db${suffix}`))
    expect(open('b.db').lost).toEqual({ frames: 0, pages: undefined })
  })

  test('is told of a whole log that is left alone', async () => {
    await withCommits(5)
    killed('a.db', 'b.db')
    for (const suffix of ['-witness', '-sums', '-shm']) rmSync(join(directory, `b.db${suffix}`))
    const database = open('b.db')
    expect([count(database), database.lost]).toEqual([5, { frames: 0, pages: undefined }])
  })

  test('a file that is gone is not made anew beside its checksums', async () => {
    await (await withCommits(5)).close()
    rmSync(join(directory, 'a.db'))
    rmSync(join(directory, 'a.db-witness'))
    expect(() => open('a.db')).toThrow('it is gone or empty')
  })
})

test('P2: a file gets its checksums only where it has a witness, also on a full disk', async () => {
  const path = join(directory, 'a.db')
  await open('a.db').close()
  for (const suffix of ['-witness', '-sums']) rmSync(path + suffix)
  // In the place of a disk that has no room for it.
  symlinkSync('/dev/full', `${path}-witness`)
  open('a.db')
  expect(existsSync(`${path}-sums`)).toBe(false)
})
