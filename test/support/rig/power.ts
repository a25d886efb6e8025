import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { changeDatabase } from '../change-database.ts'
import { observeSyncs } from './disk.ts'

const CATALOG = ['catalog.db', 'catalog.db-wal'] as const

/** Which bytes of staging files that nobody synced a power cut leaves: all that were written, or none. */
export type Unsynced = 'kept' | 'lost'

/**
 * The worst order in which a state directory can reach a disk: what is removed, cut or overwritten is so at once, the catalog
 * is what it was when its last sync began. What survives is kept in a directory beside.
 */
export class PowerCut {
  readonly #stateDir: string
  readonly #durable: string
  /** What is left of a dead daemon is being closed: it syncs nothing any more. */
  isBurying = false

  constructor(root: string, stateDir: string) {
    this.#stateDir = stateDir
    this.#durable = join(root, 'durable')
    mkdirSync(join(this.#durable, 'staging'), { recursive: true })
    observeSyncs(stateDir, (path) => this.#synced(path))
  }

  close(): void {
    observeSyncs(this.#stateDir, undefined)
  }

  /** What the disk has after a cut takes the place of what the page cache has. The daemon has to be dead and buried. */
  strike(unsynced: Unsynced): void {
    for (const name of [...CATALOG, 'catalog.db-shm']) rmSync(join(this.#stateDir, name), { force: true })
    for (const name of CATALOG) this.#restore(name)
    for (const name of unsynced === 'lost' ? this.#stagingFiles() : []) {
      if (existsSync(join(this.#durable, name))) this.#restore(name)
      else rmSync(join(this.#stateDir, name))
    }
    changeDatabase(join(this.#stateDir, CATALOG[0]), (catalog) =>
      catalog.exec("UPDATE meta SET value = 'another' WHERE name = 'boot-id'"),
    )
  }

  #stagingFiles(): string[] {
    return readdirSync(join(this.#stateDir, 'staging')).map((name) => join('staging', name))
  }

  #restore(name: string): void {
    const from = join(this.#durable, name)
    if (existsSync(from)) copyFileSync(from, join(this.#stateDir, name))
  }

  #synced(path: string): (() => void) | undefined {
    if (this.isBurying) return undefined
    const staging = path.startsWith(join(this.#stateDir, 'staging/'))
    if (!staging && basename(path) !== CATALOG[1]) return undefined
    const names = staging ? [join('staging', basename(path))] : CATALOG
    const copied = names.filter((name) => {
      const from = join(this.#stateDir, name)
      if (existsSync(from)) copyFileSync(from, `${join(this.#durable, name)}.begun`)
      return existsSync(from)
    })
    return () => {
      for (const name of copied) {
        const begun = `${join(this.#durable, name)}.begun`
        if (existsSync(begun)) copyFileSync(begun, join(this.#durable, name))
      }
    }
  }
}
