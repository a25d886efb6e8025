import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Database } from '../../../src/base/database.ts'
import { isMarkedFile } from '../../../src/base/open-mark.ts'

const SUFFIXES = ['', '-wal', '-shm', '-witness', '-sums']
const NOBODY_CAN_TELL = { frames: 0, pages: undefined }

let directory = ''
const opened: Database[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-open-mark-'))
})

afterEach(async () => {
  for (const database of opened.splice(0)) await database.close()
  rmSync(directory, { recursive: true })
})

const path = (name: string): string => join(directory, name)

function open(name: string, readOnly = false): Database {
  const database = Database.open(path(name), {
    applicationId: 7,
    format: 1,
    schema: 'CREATE TABLE rows (value INTEGER)',
    readOnly,
  })
  opened.push(database)
  return database
}

const add = (database: Database): void =>
  database.transaction(() => database.exec('INSERT INTO rows VALUES (1)'))

const count = (database: Database): unknown => database.prepare('SELECT count(*) AS n FROM rows').get()?.n

/** What a kill leaves of it, under another name, but for these. */
function killed(name: string, to: string, ...without: string[]): void {
  for (const suffix of SUFFIXES) {
    rmSync(path(to + suffix), { force: true })
    if (existsSync(path(name + suffix)) && !without.includes(suffix))
      copyFileSync(path(name + suffix), path(to + suffix))
  }
}

/** As an earlier ferryfs leaves it. */
function withoutMark(name: string): void {
  const database = new DatabaseSync(path(name))
  database.exec('PRAGMA user_version=1')
  database.close()
  for (const suffix of ['-witness', '-sums']) rmSync(path(name + suffix))
}

describe('P2: a file that is left alone, all that was beside it removed', () => {
  const beside = SUFFIXES.slice(1)

  test('after a kill lacks nobody can tell what, also for who only reads it', () => {
    add(open('a.db'))
    killed('a.db', 'b.db', ...beside)
    killed('a.db', 'c.db', ...beside)
    expect(open('b.db').lost).toEqual(NOBODY_CAN_TELL)
    expect(open('c.db', true).lost).toEqual(NOBODY_CAN_TELL)
  })

  test('after a kill of the second process is told, too, and until it is written down elsewhere', () => {
    add(open('a.db'))
    killed('a.db', 'b.db')
    const second = open('b.db')
    add(second)
    expect([count(second), second.lost]).toEqual([2, undefined])
    killed('b.db', 'c.db', ...beside)
    expect(open('c.db').lost).toEqual(NOBODY_CAN_TELL)
    killed('c.db', 'd.db')
    const fourth = open('d.db')
    expect(fourth.lost).toEqual(NOBODY_CAN_TELL)
    fourth.forgetLost()
    killed('d.db', 'e.db')
    expect(open('e.db').lost).toBeUndefined()
  })

  test('lacks nothing after a clean close, of which it is all that is needed', async () => {
    const database = open('a.db')
    add(database)
    await database.close()
    killed('a.db', 'b.db', ...beside)
    const copy = open('b.db')
    expect([count(copy), copy.lost]).toEqual([1, undefined])
  })

  test('without a log alone is told where the witness knows of no flush', () => {
    add(open('a.db'))
    killed('a.db', 'b.db', '-wal', '-shm')
    expect(open('b.db').lost).toEqual(NOBODY_CAN_TELL)
  })

  test('of an earlier ferryfs gets the mark at the first start', async () => {
    const first = open('a.db')
    add(first)
    await first.close()
    withoutMark('a.db')
    const second = open('a.db')
    expect([count(second), second.lost]).toEqual([1, undefined])
    killed('a.db', 'b.db', ...beside)
    expect(open('b.db').lost).toEqual(NOBODY_CAN_TELL)
  })
})

describe('P2: a start or a close that is cut short is no loss', () => {
  test('a start whose mark is not folded in', async () => {
    await open('a.db').close()
    const handle = new DatabaseSync(path('a.db'))
    handle.exec('PRAGMA wal_autocheckpoint=0; PRAGMA user_version=1330662913')
    killed('a.db', 'b.db')
    killed('a.db', 'c.db', '-wal', '-shm')
    expect(isMarkedFile(path('b.db'))).toBe(false)
    expect(open('b.db').lost).toBeUndefined()
    expect(open('c.db').lost).toBeUndefined()
    killed('b.db', 'd.db')
    expect(isMarkedFile(path('d.db'))).toBe(true)
    handle.close()
  })

  test('a close whose taking back is in the log alone', () => {
    const first = open('a.db')
    add(first)
    first.foldLog()
    first.transaction(() => first.exec('PRAGMA user_version=1'))
    killed('a.db', 'b.db')
    expect(isMarkedFile(path('b.db'))).toBe(true)
    const second = open('b.db')
    expect([count(second), second.lost]).toEqual([1, undefined])
    killed('b.db', 'c.db', ...SUFFIXES.slice(1))
    expect(open('c.db').lost).toEqual(NOBODY_CAN_TELL)
  })

  test('checksums that are made for a file that was killed', async () => {
    add(open('a.db'))
    killed('a.db', 'b.db', '-sums')
    const second = open('b.db')
    expect([count(second), second.lost]).toEqual([1, undefined])
    await second.close()
    expect([isMarkedFile(path('b.db')), existsSync(path('b.db-wal'))]).toEqual([false, false])
  })

  test('a start that fails, and closes what it opened', () => {
    add(open('a.db'))
    killed('a.db', 'b.db')
    const upgrades = { 2: 'this is no statement' }
    const options = { applicationId: 7, format: 2, schema: '', upgrades }
    expect(() => Database.open(path('b.db'), options)).toThrow('cannot be used')
    expect([isMarkedFile(path('b.db')), existsSync(path('b.db-wal'))]).toEqual([false, false])
    const next = open('b.db')
    expect([count(next), next.lost]).toEqual([1, undefined])
  })
})

test('P2: a file that could have no witness, on a full disk, gets no mark that says so', async () => {
  await open('a.db').close()
  rmSync(path('a.db-witness'))
  rmSync(path('a.db-sums'))
  symlinkSync('/dev/full', path('a.db-witness'))
  add(open('a.db'))
  killed('a.db', 'b.db', '-witness')
  expect(isMarkedFile(path('b.db'))).toBe(false)
})

test('P2: no flipped bit makes a mark of none, or of one a file that was closed', async () => {
  const database = open('a.db')
  add(database)
  killed('a.db', 'open.db', ...SUFFIXES.slice(1))
  await database.close()
  killed('a.db', 'closed.db', ...SUFFIXES.slice(1))
  for (let bit = 0; bit < 32; bit += 1) {
    for (const name of ['open.db', 'closed.db']) {
      const bytes = readFileSync(path(name))
      const at = 60 + Math.floor(bit / 8)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (bit % 8))
      writeFileSync(path('b.db'), bytes)
      expect(() => open('b.db'), `${name}, bit ${bit}`).toThrow('its format is')
    }
  }
})
