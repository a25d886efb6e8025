import { reasonOf, UsageError } from '../base/errors.ts'
import { faultPoint } from '../base/faults.ts'
import { type Mode, type Policy, policyOf } from '../base/modes.ts'
import { type Catalog, ROOT_INO } from '../catalog/index.ts'
import type { MountConfig } from '../config/mount-config.ts'
import type { NamespaceLease } from '../migration/index.ts'
import { StoreError } from '../store/errors.ts'
import {
  hasMarkFile,
  type LegacyTree,
  type OwnerMark,
  readMark,
  removeMark,
  renewMark,
  rootIdentity,
  writeMark,
} from '../legacy/index.ts'
import type { Log } from '../observe/log.ts'
import { closeDescriptor, patiently, syncDescriptor } from '../sys/index.ts'
import { forgetOwner, ownerById, recordOwner } from './machine.ts'
import { lostMark, olderCopy, refusal } from './owner-check.ts'

/** Meta: ids of the state directories whose place this one has taken. */
const REPLACES = 'replaces'
/** Meta: `yes` from when SOURCE is marked until the mark is about to be taken off by the mode. */
const MARKED = 'marked'

/** Whether SOURCE alone may lack something in this mode: then it has to say who knows the rest. */
function needsMark({ writeTo, removesLegacy, needsLegacy }: Policy): boolean {
  return writeTo === 'store' || removesLegacy || !needsLegacy
}

/**
 * The mark on SOURCE that names the state directory without which it is not complete. It is on the medium before a file is
 * removed from SOURCE and before a change is kept in the catalog alone, and it goes only when the mode in force is one in
 * which SOURCE has all there is. With --source-readonly the machine keeps it instead.
 */
export class Ownership {
  readonly #config: MountConfig
  readonly #catalog: Catalog
  readonly #id: string
  readonly #log: Log
  #marked = false
  /** The mark on SOURCE, if it is this state directory's and says more than that. */
  #found: OwnerMark | undefined
  #lacksMark = false
  #complained = false

  constructor(config: MountConfig, catalog: Catalog, id: string, log: Log) {
    this.#config = config
    this.#catalog = catalog
    this.#id = id
    this.#log = log
    const { takesFrom } = config
    if (takesFrom === undefined || takesFrom === id || this.replaces.includes(takesFrom)) return
    const replaces = JSON.stringify([...this.replaces, takesFrom])
    catalog.transaction(() => catalog.meta.set(REPLACES, replaces))
    log.warn({ id: takesFrom }, 'takes the place of another state directory')
  }

  /** What marks call this state directory. */
  get id(): string {
    return this.#id
  }

  /** Of state directories whose place this one has taken: their marks are its own. */
  get replaces(): readonly string[] {
    const known: unknown = JSON.parse(this.#catalog.meta.get(REPLACES) ?? '[]')
    return Array.isArray(known) ? known.filter((id) => typeof id === 'string') : []
  }

  /** Whether files may go from SOURCE, as far as that depends on its mark. */
  get marked(): boolean {
    return this.#marked
  }

  /** Looks at the mark of a volume that is about to be used. @throws UsageError if it names another state directory */
  admit(tree: LegacyTree): void {
    withRoot(tree, (root) => {
      const found = readMark(root)
      tree.hidesOwnFiles = hasMarkFile(root)
      this.#lacksMark = !found
      if (found?.id === this.#id) this.#found = found.kind === 'whole' ? found.mark : undefined
      if (!found || this.#isOwn(found.id)) return
      throw new UsageError(refusal(found, false, this.#config))
    })
  }

  /**
   * SOURCE has lost the mark that this catalog has put on it: `forget` took it off, another state directory did that has taken SOURCE
   * over meanwhile, or another directory lies there. Whoever did that may have gone on with SOURCE by itself, and what he put there
   * would be hidden behind what this catalog has in its store. Such a mount is refused unless it is asked for, and then told of as a loss.
   * @throws UsageError in one line
   */
  requireMarkKept(): void {
    const catalog = this.#catalog
    if (!this.#lacksMark || catalog.meta.get(MARKED) !== 'yes') return
    if (!this.#config.takeOver) throw new UsageError(lostMark(this.#config))
    catalog.transaction(() => {
      catalog.noteLoss(
        `SOURCE ${this.#config.source} had lost its mark: what was put there since, under names that the store has, is not shown`,
      )
      catalog.meta.set(MARKED, '')
    })
  }

  /**
   * SOURCE was marked by a later mount, or in a later state, than this catalog knows of: an older copy of the state directory was put
   * back. Where the store went back with it nothing can tell what SOURCE has lacked since, so that such a mount is refused unless it is
   * asked for; where the store does not answer, all is in doubt. Before the namespace is taken.
   * @returns the mode that the mount is to go on in: not one that takes SOURCE for complete, as the copy may have been in before
   * @throws UsageError in one line
   */
  async requireNewest(lease: NamespaceLease, mode: Mode): Promise<Mode> {
    const catalog = this.#catalog
    const { epoch = 0, state = 0 } = this.#found ?? ownerById(this.#id, process.env) ?? {}
    if (epoch <= Number(catalog.meta.get('epoch') ?? 0) && state <= catalog.state.last) return mode
    // SOURCE is marked, so it lacks what is in the store: a copy from before that took it for complete.
    const goOn = needsMark(policyOf(mode, this.#config.sourceReadonly)) ? mode : 'drain'
    const doesStoreTell = await lease.isAheadOf(catalog).catch((error: unknown) => {
      if (error instanceof StoreError) return undefined
      throw error
    })
    if (doesStoreTell === false && !this.#config.takeOver) throw new UsageError(olderCopy(this.#config))
    catalog.transaction(() => {
      if (goOn !== mode) catalog.meta.set('mode', goOn)
      // Else the lease notes it.
      if (doesStoreTell) return
      catalog.noteOlderCopy(undefined)
      catalog.state.goBeyond(state)
    })
    if (goOn !== mode)
      this.#log.warn({ before: mode, mode: goOn }, 'SOURCE was drained after this state directory was copied')
    return goOn
  }

  /**
   * Before SOURCE may come to lack something.
   * @throws FsError if it cannot be marked: then nothing may go
   */
  mark(tree: LegacyTree | undefined): void {
    // Left for good: what it says stays.
    if (!tree) return
    withRoot(tree, (root) => {
      const mark = this.#markOf(root)
      if (!this.#config.sourceReadonly) {
        writeMark(root, mark)
        this.#note('yes')
      }
      tree.hidesOwnFiles = hasMarkFile(root)
      this.#record(mark)
    })
    faultPoint('daemon.mark.written')
    this.#marked = true
  }

  /** As a file is about to go from SOURCE, the mark says of which state; on the medium when it resolves. @throws FsError */
  async renew(tree: LegacyTree | undefined): Promise<void> {
    if (!tree || !this.#marked || this.#config.sourceReadonly) return
    const root = tree.openDirectory(ROOT_INO)
    try {
      const isToSync = patiently(root, () => renewMark(root, this.#markOf(root)))
      if (isToSync) await syncDescriptor(root)
    } finally {
      closeDescriptor(root)
    }
  }

  /** After a change of mode, and at a start: the mark is there if the mode in force needs it, and else gone. */
  settle(policy: Policy, tree: LegacyTree | undefined): void {
    try {
      if (needsMark(policy)) this.mark(tree)
      else this.#unmark(tree)
      this.#complained = false
    } catch (error) {
      if (!this.#complained) {
        this.#log.error({ err: error }, 'SOURCE cannot be marked: nothing is removed from it until it can')
      }
      this.#complained = true
    }
  }

  /** What did not succeed before, when there is room again or the volume answers. */
  retry(policy: Policy, tree: LegacyTree | undefined): void {
    if (needsMark(policy) && !this.#marked) this.settle(policy, tree)
  }

  /** The policy with nothing removed from a SOURCE that does not say who knows the rest. */
  bounded(policy: Policy): Policy {
    return this.#marked || !policy.removesLegacy ? policy : { ...policy, removesLegacy: false }
  }

  #unmark(tree: LegacyTree | undefined): void {
    this.#marked = false
    forgetOwner(this.#id, process.env)
    if (!tree || this.#config.sourceReadonly) return
    this.#note('')
    withRoot(tree, (root) => {
      if (readMark(root)) removeMark(root)
      tree.hidesOwnFiles = false
    })
  }

  /** Off the medium before the mark is, so that no power cut leaves a mark missed that the mode has taken off. */
  #note(marked: 'yes' | ''): void {
    const catalog = this.#catalog
    if ((catalog.meta.get(MARKED) ?? '') === marked) return
    catalog.transaction(() => catalog.meta.set(MARKED, marked))
    if (marked === '') catalog.flushNow()
  }

  #isOwn(id: string): boolean {
    return id === this.#id || this.replaces.includes(id)
  }

  /** Beside a mark it is a second net; in the place of one it is all there is. */
  #record(mark: OwnerMark): void {
    try {
      recordOwner(mark, process.env)
    } catch (error) {
      this.#log.warn({ err: error }, 'the machine cannot record who owns SOURCE')
    }
  }

  #markOf(root: number): OwnerMark {
    const { namespace, store, stateDir, source } = this.#config
    // On the medium since the namespace was taken: a power cut does not make the catalog older than the mark.
    const epoch = Number(this.#catalog.meta.get('epoch') ?? 0)
    const { flushed, last } = this.#catalog.state
    // So was what a predecessor of this worker has had it say, unless the catalog is an older copy.
    const state = Math.max(flushed, Math.min(this.#found?.state ?? 0, last))
    return { id: this.#id, namespace, store, stateDir, source, root: rootIdentity(root), epoch, state }
  }
}

/** @throws UsageError in one line if a mode that needs it is wanted and SOURCE cannot be marked */
export function requireMark(ownership: Ownership, policy: Policy, tree: LegacyTree | undefined): void {
  if (!needsMark(policy)) return
  try {
    ownership.mark(tree)
  } catch (error) {
    throw new UsageError(
      `SOURCE cannot be marked as one whose files are elsewhere: ${reasonOf(error)}; make it writable and some room on it, or use --source-readonly`,
      1,
      { cause: error },
    )
  }
}

function withRoot<T>(tree: LegacyTree, look: (root: number) => T): T {
  const root = tree.openDirectory(ROOT_INO)
  try {
    return patiently(root, () => look(root))
  } finally {
    closeDescriptor(root)
  }
}
