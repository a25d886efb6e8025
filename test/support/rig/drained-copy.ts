import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { FsError, reasonOf } from '../../../src/base/errors.ts'
import { acceptLosses } from '../../../src/migration/index.ts'
import type { KeySpace } from '../../../src/store/contract.ts'
import { Client, type Described } from './client.ts'
import { clock } from './clock.ts'
import { atPoint, clearTrap } from './crash.ts'
import { Rig } from './rig.ts'
import { putBackCopy } from './state-copy.ts'
import { differences } from './trees.ts'

const LONG = 'z'.repeat(3000)
const ROUNDS = 6

/** Directories three deep, an empty one, a file with names in three directories, a symlink, a file of several chunks' records. */
function fillNested(source: string): void {
  for (const path of ['a', 'a/b', 'a/b/c', 'a/empty', 'l1', 'l1/deep', 'l2']) mkdirSync(join(source, path))
  for (const path of ['top', 'a/f', 'a/b/g', 'a/b/c/h', 'l1/x'])
    writeFileSync(join(source, path), `of ${path}`)
  writeFileSync(join(source, 'a/b/long'), LONG)
  linkSync(join(source, 'l1/x'), join(source, 'l2/y'))
  linkSync(join(source, 'l1/x'), join(source, 'l1/deep/z'))
  symlinkSync('g', join(source, 'a/b/to-g'))
  for (const [path, mode] of [
    ['a', 0o751],
    ['a/b', 0o2750],
    ['a/b/c', 0o1777],
  ] as const) {
    chmodSync(join(source, path), mode)
    utimesSync(join(source, path), 1_000_000, 1_000_000)
  }
}

/** A state directory that is copied, used on, and put back, over a volume that was drained since. */
export class DrainedCopy {
  readonly rig: Rig
  readonly client: Client

  private constructor(rig: Rig) {
    this.rig = rig
    this.client = new Client(rig)
  }

  /** All is stored, unless that is to come; changes go to the store, and nothing has left the volume yet. */
  static async start(fill: (source: string) => void = fillNested, isStored = true): Promise<DrainedCopy> {
    const drained = new DrainedCopy(await Rig.start({ mode: 'mirror', fill, shardEntries: 4 }))
    const { rig } = drained
    if (isStored) {
      await rig.migrate()
      await rig.settle()
    }
    await rig.setMode('drain')
    return drained
  }

  /** The state directory as it is now. */
  async copy(): Promise<void> {
    await this.rig.tell()
    this.#copyNow()
  }

  /** Drains; at the n-th passage of the fault point the copy is made. False if it was not passed as often. */
  async drainCopyingAt(point: string, nth: number): Promise<boolean> {
    const isMade = this.copyAt(point, nth)
    await this.drain()
    atPoint(point, undefined)
    return isMade()
  }

  /** The copy is made at the n-th passage of the fault point. */
  copyAt(point: string, nth: number): () => boolean {
    let passed = 0
    atPoint(point, () => {
      passed += 1
      if (passed === nth) this.#copyNow()
    })
    return () => passed >= nth
  }

  stopCopying(): void {
    clearTrap()
  }

  /** Drains until it is killed at the n-th passage of the fault point, or has ended; then another worker or mount goes on. */
  async migrateUntil(point: string, nth: number): Promise<void> {
    const { rig } = this
    rig.dieAt(point, nth)
    const ended = rig.built.mover.run({}, () => undefined).catch(() => undefined)
    await clock.until(Promise.race([ended, rig.death]))
    rig.disarm()
    if (rig.dead) await rig.restart(nth % 2 === 0 ? 'worker' : 'mount')
  }

  /** Puts the copy back; where that is killed at the n-th passage of the fault point, the next mount goes on. */
  async putBackDyingAt(point: string, nth: number): Promise<void> {
    const { rig } = this
    rig.die()
    rig.dieAt(point, nth)
    await this.putBack().catch(() => undefined)
    rig.disarm()
    if (rig.dead) await rig.restart('mount')
  }

  get isCopied(): boolean {
    return existsSync(join(this.rig.root, 'copy'))
  }

  #copyNow(): void {
    const copy = join(this.rig.root, 'copy')
    rmSync(copy, { recursive: true, force: true })
    cpSync(this.rig.stateDir, copy, { recursive: true })
  }

  /** Until nothing more leaves the volume. */
  async drain(): Promise<void> {
    const { rig } = this
    for (let round = 0; round < ROUNDS; round += 1) {
      await rig.migrate()
      await rig.settle()
      await rig.reap()
    }
    await rig.tell()
  }

  async tree(): Promise<Map<string, Described>> {
    this.client.forgetAll()
    const found = await this.client.tree()
    this.client.forgetAll()
    return found
  }

  putBack(): Promise<void> {
    return putBackCopy(this.rig)
  }

  /** The store has this object no more. */
  async loseObject(space: KeySpace, key: string): Promise<void> {
    const { memory } = this.rig.world
    const object = await memory.get(space, key)
    if (object) await memory.delete(space, key, object.version)
  }

  /** Of these paths those that answer with an error, and which; what is there and can be read is not among them. */
  async errors(paths: readonly string[]): Promise<string[]> {
    const found: string[] = []
    for (const path of paths) {
      try {
        const entry = await this.client.lookup(path)
        if (entry) await this.client.describe(entry.nodeId)
      } catch (error) {
        found.push(`${path}: ${error instanceof FsError ? error.code : reasonOf(error)}`)
      }
    }
    this.client.forgetAll()
    return found
  }

  /** The losses are accepted, what is owed is sent, and what nobody names any more is deleted. Paths that were left out. */
  async accept(): Promise<string[]> {
    const { rig } = this
    const leftOut = await clock.until(acceptLosses(rig.context))
    await this.drain()
    await rig.restart('mount')
    await this.drain()
    return leftOut.items.map(({ path }) => path)
  }

  /** What differs from what was there. What was removed or renamed since may be back. */
  async lacking(wanted: Map<string, Described>): Promise<string[]> {
    const shown = await this.tree()
    for (const path of shown.keys()) if (!wanted.has(path)) shown.delete(path)
    return alike(wanted, shown)
  }

  /** What was there and is now nowhere, or something else; and what is an error, which says that it cannot be had. */
  async lackingOrWrong(wanted: Map<string, Described>): Promise<{ wrong: string[]; errors: string[] }> {
    const wrong: string[] = []
    const errors: string[] = []
    for (const [path, { content, mode }] of wanted) {
      try {
        const shown = await this.client.describe(await this.client.node(path))
        if (!shown.content.equals(content) || shown.mode !== mode) wrong.push(`${path}: it is another file`)
      } catch (error) {
        const isLost = error instanceof FsError && error.code === 'EIO'
        if (isLost) errors.push(path)
        else wrong.push(`${path}: ${reasonOf(error)}`)
      }
    }
    this.client.forgetAll()
    return { wrong, errors }
  }

  /** All that was there is shown as it was: at once, by the next mount, once that is accepted, and by a tree made of the store. */
  async expectAll(wanted: Map<string, Described>): Promise<void> {
    const lacking = async (when: string): Promise<void> =>
      expect(await this.lacking(wanted), when).toEqual([])
    await lacking('put back')
    await this.rig.restart('mount')
    await lacking('mounted again')
    expect(this.rig.catalog.doubts.any).toBe(true)
    await this.accept()
    await lacking('accepted')
    expect((await this.rig.verify()).differences).toEqual([])
    const { rig, result } = await Rig.rebuilt(this.rig.world.memory)
    try {
      const shown = await new Client(rig).tree()
      for (const path of shown.keys()) if (!wanted.has(path)) shown.delete(path)
      expect(alike(wanted, shown), `rebuilt: ${JSON.stringify(result)}`).toEqual([])
    } finally {
      await rig.stop()
    }
  }
}

/** What differs; of directories their times, too: nobody has changed them but the applications. */
function alike(wanted: Map<string, Described>, shown: Map<string, Described>): string[] {
  // A name that was taken from a file may be back.
  const isMore = (path: string, { nlink }: Described): boolean => nlink > (wanted.get(path)?.nlink ?? 0)
  const without = new Map(
    [...shown].map(([path, one]) => [
      path,
      isMore(path, one) ? { ...one, nlink: wanted.get(path)?.nlink ?? 0 } : one,
    ]),
  )
  const found = differences(wanted, without)
  for (const [path, { mode, mtimeNs }] of wanted) {
    const now = shown.get(path)
    if (mode.startsWith('4') && now && now.mtimeNs !== mtimeNs)
      found.push(`${path}: mtime ${mtimeNs} | ${now.mtimeNs}`)
  }
  return found
}
