import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { LogBegunAnew, prepareFoldOf, saltOfLog } from '../../../src/base/fold.ts'
import { WalDamaged } from '../../../src/base/wal.ts'

let directory: string
let path: string
let writer: DatabaseSync

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-fold-'))
  path = join(directory, 'database')
  writer = new DatabaseSync(path)
  writer.exec('PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE rows (value BLOB)')
  for (let row = 0; row < 50; row += 1) write()
})

afterEach(() => {
  writer.close()
  rmSync(directory, { recursive: true })
})

const write = (): void => writer.exec('INSERT INTO rows VALUES (randomblob(3000))')
const frames = (): number => Number(writer.prepare('PRAGMA wal_checkpoint(NOOP)').get()?.log)

test('P6: a log that began anew under who was to fold it in is no damage', () => {
  const salt = saltOfLog(path)
  const before = frames()
  const added = prepareFoldOf(salt, path, before, undefined, true)
  expect(added?.frames).toBe(before)
  writer.exec('PRAGMA wal_checkpoint(PASSIVE)')
  write()
  expect(frames()).toBeLessThan(before)
  expect(() => prepareFoldOf(salt, path, before, added, false)).toThrow(LogBegunAnew)
})

test('P1: a frame that is not what was written is damage', () => {
  const salt = saltOfLog(path)
  const bytes = readFileSync(`${path}-wal`)
  bytes[5000] = (bytes[5000] ?? 0) ^ 1
  writeFileSync(`${path}-wal`, bytes)
  expect(() => prepareFoldOf(salt, path, frames(), undefined, true)).toThrow(WalDamaged)
})
