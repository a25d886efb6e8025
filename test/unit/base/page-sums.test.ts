import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database, DatabaseDamaged } from '../../../src/base/database.ts'
import { prepareFold } from '../../../src/base/fold.ts'
import { eventually } from '../../support/daemon/place.ts'
import { Random } from '../../support/rig/random.ts'

const PAGE = 4096
const LARGE_LOG = 64 * 1024 * 1024
// In the first block of checksums.
const DURABLE_OFFSET = 508
const BESIDE = ['', '-wal', '-shm', '-witness', '-sums']

let directory = ''
const opened: Database[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-page-sums-'))
})

afterEach(async () => {
  for (const database of opened.splice(0)) await database.close()
  rmSync(directory, { recursive: true })
})

const path = (name: string): string => join(directory, name)

function open(name: string, repairs: string[] = []): Database {
  const database = Database.open(path(name), {
    applicationId: 7,
    format: 1,
    schema: 'CREATE TABLE rows (id INTEGER PRIMARY KEY, value TEXT)',
    check: true,
    onRepaired: (what) => repairs.push(what),
  })
  opened.push(database)
  return database
}

function add(database: Database, rows: number, length = 500): void {
  const insert = database.prepare('INSERT INTO rows (value) VALUES (?)')
  for (let row = 0; row < rows; row += 1)
    database.transaction(() => insert.run(String(row).padEnd(length, 'x')))
}

const rowsOf = (database: Database): unknown[] => database.prepare('SELECT * FROM rows').all()

function copied(name: string, to: string): void {
  for (const suffix of BESIDE) {
    rmSync(path(to + suffix), { force: true })
    if (existsSync(path(name + suffix))) copyFileSync(path(name + suffix), path(to + suffix))
  }
}

function damaged(name: string, ...bits: number[]): void {
  const bytes = readFileSync(path(name))
  for (const bit of bits) {
    const at = Math.floor(bit / 8)
    bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8))
  }
  writeFileSync(path(name), bytes)
}

describe('P1: a page of a database', () => {
  test('with one flipped bit is put right', async () => {
    const first = open('a.db')
    add(first, 200)
    const rows = rowsOf(first)
    await first.close()
    const random = new Random(3)
    const pages = statSync(path('a.db')).size / PAGE
    expect(pages).toBeGreaterThan(20)
    for (let page = 0; page < pages; page += 1) {
      copied('a.db', 'b.db')
      damaged('b.db', page * PAGE * 8 + random.below(PAGE * 8))
      const repairs: string[] = []
      const database = open('b.db', repairs)
      expect([rowsOf(database), repairs]).toEqual([rows, [`page ${page + 1}`]])
      await database.close()
      // In the first page SQLite counts changes of the file.
      expect(
        readFileSync(path('b.db'))
          .subarray(PAGE)
          .equals(readFileSync(path('a.db')).subarray(PAGE)),
      ).toBe(true)
    }
  })

  test('with more than that is never served: the file is refused, with the page', async () => {
    const first = open('a.db')
    add(first, 200)
    await first.close()
    damaged('a.db', 5 * PAGE * 8 + 77, 5 * PAGE * 8 + 9000)
    expect(() => open('a.db')).toThrow(DatabaseDamaged)
    expect(() => open('a.db')).toThrow(/first of them 6/)
  })

  test('is what it should be where its checksum is damaged, wherever that is', async () => {
    const first = open('a.db')
    add(first, 300)
    const rows = rowsOf(first)
    await first.close()
    const random = new Random(5)
    for (let block = 0; block < statSync(path('a.db-sums')).size / 512; block += 1) {
      copied('a.db', 'b.db')
      damaged('b.db-sums', block * 4096 + random.below(4096))
      const repairs: string[] = []
      const database = open('b.db', repairs)
      expect([rowsOf(database), repairs.length]).toEqual([rows, 1])
      await database.close()
      // What was lost is known again.
      const again: string[] = []
      await open('b.db', again).close()
      expect(again).toEqual([])
    }
  })

  test('that the log has as well is no damage, whatever a cut checkpoint left of it', async () => {
    const first = open('a.db')
    add(first, 100)
    first.foldLog()
    add(first, 100, 700)
    const rows = rowsOf(first)
    copied('a.db', 'before.db')
    prepareFold(path('a.db'), frames('a.db'), undefined, true)
    copied('a.db', 'noted.db')
    first.foldLog()
    copied('a.db', 'after.db')
    // Some pages of the one, some of the other.
    copied('noted.db', 'half.db')
    const [old, now] = [readFileSync(path('noted.db')), readFileSync(path('after.db'))]
    for (let page = 0; page * PAGE < old.length; page += 3)
      now.copy(old, page * PAGE, page * PAGE, Math.min(old.length, (page + 1) * PAGE))
    writeFileSync(path('half.db'), old)
    for (const name of ['before.db', 'noted.db', 'half.db', 'after.db']) {
      const repairs: string[] = []
      const database = open(name, repairs)
      expect([rowsOf(database), repairs], name).toEqual([rows, []])
      await database.close()
      const again = open(name, repairs)
      expect([rowsOf(again), repairs], name).toEqual([rows, []])
      await again.close()
    }
  })

  test('has its checksum after many checkpoints of the thread, each of which has the log begin anew', async () => {
    const database = open('a.db')
    await database.flush()
    let [anew, before] = [0, 0]
    for (let round = 0; round < 400; round += 1) {
      add(database, 64, 3000)
      await new Promise((resolve) => setImmediate(resolve))
      // However slow the thread is: it may take its time, and the log begins anew with what is written then.
      if (logged('a.db') > LARGE_LOG)
        await eventually('a log that begins anew', () => {
          add(database, 1)
          return logged('a.db') < LARGE_LOG
        })
      if (logged('a.db') < before) anew += 1
      before = logged('a.db')
    }
    expect(anew).toBeGreaterThan(0)
    const rows = rowsOf(database).length
    await database.close()
    expect(readdirSync(directory).sort()).toEqual(['a.db', 'a.db-sums', 'a.db-witness'])
    const repairs: string[] = []
    expect(rowsOf(open('a.db', repairs)).length).toBe(rows)
    expect(repairs).toEqual([])
  })

  test('of a file that has no checksums gets one', async () => {
    const first = open('a.db')
    add(first, 100)
    const rows = rowsOf(first)
    await first.close()
    rmSync(path('a.db-sums'))
    rmSync(path('a.db-witness'))
    const older = new DatabaseSync(path('a.db'))
    older.exec('UPDATE rows SET value = value')
    older.close()
    await open('a.db').close()
    damaged('a.db', 3 * PAGE * 8 + 5)
    expect(rowsOf(open('a.db'))).toEqual(rows)
  })
})

/** Bytes of the log that are in force: the index of the log has the number of its last frame (SQLite, WAL-index header). */
const logged = (name: string): number => readFileSync(path(`${name}-shm`)).readUInt32LE(16) * 4120

describe('P1: a page that is put back to its former content', () => {
  /** A file whose log was folded in twice, closed; and what it was after the first time. */
  async function foldedTwice(): Promise<{ former: Buffer; rows: unknown[] }> {
    const first = open('a.db')
    add(first, 300)
    await first.close()
    const former = readFileSync(path('a.db'))
    const second = open('a.db')
    second.transaction(() => second.exec("UPDATE rows SET value = replace(value, 'x', 'y')"))
    const rows = rowsOf(second)
    await second.close()
    return { former, rows }
  }

  test('is found out after a clean close, whichever page it is', async () => {
    const { former } = await foldedTwice()
    const now = readFileSync(path('a.db'))
    const changed = differing(former, now)
    expect(changed.length).toBeGreaterThan(20)
    for (const pages of [...changed.map((page) => [page]), changed]) {
      copied('a.db', 'b.db')
      putBack('b.db', former, pages)
      expect(() => open('b.db'), String(pages)).toThrow(/are not what was written/)
    }
  })

  test('is found out after a kill, if the log does not have it any more', async () => {
    const first = open('a.db')
    add(first, 200)
    await first.flush()
    first.foldLog()
    const former = readFileSync(path('a.db'))
    first.transaction(() => first.exec("UPDATE rows SET value = replace(value, 'x', 'y')"))
    first.foldLog()
    add(first, 1)
    const changed = differing(former, readFileSync(path('a.db')))
    copied('a.db', 'b.db')
    putBack('b.db', former, changed.slice(1, 2))
    expect(() => open('b.db')).toThrow(/are not what was written/)
  })

  test('is what it is to be where a power cut took the log before the fold had begun', async () => {
    const first = open('a.db')
    add(first, 100)
    await first.close()
    const second = open('a.db')
    const rows = rowsOf(second)
    second.transaction(() => second.exec("UPDATE rows SET value = replace(value, 'x', 'y')"))
    prepareFold(path('a.db'), frames('a.db'), undefined, true)
    copied('a.db', 'b.db')
    rmSync(path('b.db-wal'))
    rmSync(path('b.db-shm'))
    const repairs: string[] = []
    const third = open('b.db', repairs)
    expect([rowsOf(third), repairs]).toEqual([rows, []])
    await third.close()
    expect(rowsOf(open('b.db', repairs))).toEqual(rows)
    expect(repairs).toEqual([])
  })

  test('is found out at the next close where a power cut took the note that the fold is durable', async () => {
    const { former, rows } = await foldedTwice()
    const now = readFileSync(path('a.db'))
    const sums = readFileSync(path('a.db-sums'))
    // As the first block was: it counts one durable fold less.
    noteDurable(sums, sums.readUInt32LE(DURABLE_OFFSET) - 1)
    writeFileSync(path('a.db-sums'), sums)
    const repairs: string[] = []
    const database = open('a.db', repairs)
    expect([rowsOf(database), repairs]).toEqual([rows, []])
    await database.close()
    putBack('a.db', former, differing(former, now).slice(3, 4))
    expect(() => open('a.db')).toThrow(/are not what was written/)
  })

  test('is found out behind the first close of a file whose checksums have no count of folds', async () => {
    const { former, rows } = await foldedTwice()
    const now = readFileSync(path('a.db'))
    const sums = readFileSync(path('a.db-sums'))
    for (let at = 0; at < sums.length; at += 512) {
      sums.fill(0, at + 504, at + 512)
      sums.writeUInt32LE(crc32(sums.subarray(at, at + 500)), at + 500)
    }
    writeFileSync(path('a.db-sums'), sums)
    copied('a.db', 'cut.db')
    // In another block than the first page, which was folded in once more as it was closed.
    putBack('cut.db', former, differing(former, now).slice(-1))
    // Whether a fold was cut short there nobody can tell.
    open('cut.db')
    const repairs: string[] = []
    const database = open('a.db', repairs)
    expect([rowsOf(database), repairs]).toEqual([rows, []])
    await database.close()
    expect(rowsOf(open('a.db', repairs))).toEqual(rows)
    expect(repairs).toEqual([])
    await opened.at(-1)?.close()
    putBack('a.db', former, differing(former, now).slice(-1))
    expect(() => open('a.db')).toThrow(/are not what was written/)
  })
})

/** Pages, from 0 on, that both have, and that are not the same. */
function differing(one: Buffer, other: Buffer): number[] {
  const pages = Math.min(one.length, other.length) / PAGE
  const at = (bytes: Buffer, page: number): Buffer => bytes.subarray(page * PAGE, (page + 1) * PAGE)
  return Array.from({ length: pages }, (_, page) => page).filter(
    (page) => !at(one, page).equals(at(other, page)),
  )
}

function putBack(name: string, former: Buffer, pages: readonly number[]): void {
  const bytes = readFileSync(path(name))
  for (const page of pages) former.copy(bytes, page * PAGE, page * PAGE, (page + 1) * PAGE)
  writeFileSync(path(name), bytes)
}

function noteDurable(sums: Buffer, folds: number): void {
  sums.writeUInt32LE(folds, DURABLE_OFFSET)
  sums.writeUInt32LE(crc32(sums.subarray(504, 512), crc32(sums.subarray(0, 500))), 500)
}

const frames = (name: string): number => Math.floor((statSync(path(`${name}-wal`)).size - 32) / 4120)
