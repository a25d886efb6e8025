import { existsSync, rmSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { isMarked, setMark } from '../../src/base/open-mark.ts'

/**
 * Changes a database of ferryfs past it. What is beside it and speaks of the file as ferryfs left it goes: another program that
 * writes to it is no damage.
 */
export function changeDatabase<T>(path: string, change: (database: DatabaseSync) => T): T {
  const database = new DatabaseSync(path)
  try {
    return change(database)
  } finally {
    database.close()
    // Unless ferryfs has it open as well: then nothing was folded in.
    if (!existsSync(`${path}-wal`)) closed(path)
  }
}

function closed(path: string): void {
  for (const beside of ['-sums', '-witness']) rmSync(path + beside, { force: true })
  const database = new DatabaseSync(path)
  try {
    if (isMarked(database)) setMark(database, false)
  } finally {
    database.close()
  }
}
