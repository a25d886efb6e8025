import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import type { KeySpace } from '../../src/store/contract.ts'
import { SPACE_NUMBERS } from '../../src/store/embedded/schema.ts'
import { ValueFiles } from '../../src/store/embedded/value-files.ts'
import { changeDatabase } from './change-database.ts'

/** Looks into, and damages, the directory of an embedded store beside the store. */
export class EmbeddedDirectory {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  get index(): string {
    return join(this.path, 'index.sqlite')
  }

  /** Runs `body` on the index with a connection of its own. */
  withIndex<T>(body: (index: DatabaseSync) => T): T {
    return changeDatabase(this.index, body)
  }

  /** The value file of an object, if it has one. */
  fileOf(space: KeySpace, key: string): string | undefined {
    const row = this.withIndex((index) =>
      index.prepare('SELECT file FROM record WHERE space = ? AND key = ?').get(SPACE_NUMBERS[space], key),
    )
    return typeof row?.file === 'number'
      ? new ValueFiles(join(this.path, 'objects')).pathOf(row.file)
      : undefined
  }

  /** Paths of all value files, sorted. */
  async files(): Promise<string[]> {
    const entries = await readdir(join(this.path, 'objects'), { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()
  }

  /** Paths of the value files that the index refers to, sorted. */
  referred(): string[] {
    const files = new ValueFiles(join(this.path, 'objects'))
    const rows = this.withIndex((index) =>
      index.prepare('SELECT file FROM record WHERE file IS NOT NULL').all(),
    )
    return rows.map(({ file }) => files.pathOf(Number(file))).sort()
  }

  /** Flips one bit of an object's value. */
  async corrupt(space: KeySpace, key: string): Promise<void> {
    const file = this.fileOf(space, key)
    if (file !== undefined) return writeFile(file, flipped(await readFile(file)))
    this.withIndex((index) => {
      const where = 'WHERE space = ? AND key = ?'
      const row = index.prepare(`SELECT value FROM record ${where}`).get(SPACE_NUMBERS[space], key)
      if (!(row?.value instanceof Uint8Array)) throw new Error(`${space} ${key} has no value`)
      const value = flipped(Buffer.from(row.value))
      index.prepare(`UPDATE record SET value = ? ${where}`).run(value, SPACE_NUMBERS[space], key)
    })
  }
}

/** The bytes with one bit in the middle flipped, in place. */
export function flipped(value: Buffer, at = value.length >> 1): Buffer {
  value[at] = (value[at] ?? 0) ^ 0x10
  return value
}
