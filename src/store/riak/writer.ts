import { setTimeout as delay } from 'node:timers/promises'
import { KeyedMutex } from '../../base/concurrency.ts'
import type { Log } from '../../observe/log.ts'
import {
  compareVersions,
  mayReplace,
  type ObjectToStore,
  type ObjectVersion,
  type PutOptions,
  type StoredObject,
} from '../contract.ts'
import { StoreSuperseded } from '../errors.ts'
import type { Access, Target } from './access.ts'
import type { ContentToStore, RiakAnswer, RiakContent } from './client.ts'
import { type Context, Contexts } from './contexts.ts'
import { type Deadline, orAborted } from './deadline.ts'
import { verdictOn } from './failures.ts'
import { encodeObject, highestVersion, resolve, versionOf, versionText } from './objects.ts'
import { type UnsureDelete, UnsureDeletes } from './unsure-deletes.ts'

/** A write whose outcome is unknown is looked for and, where it is missing, repeated; so often in one operation. */
const MAX_WRITES = 3

/** Before the second and the third write, in milliseconds. */
const PAUSES_MS = [50, 200]

/**
 * Time from the look to the acknowledgement of a write that replaces one version and no other. Where a node keeps no siblings yet,
 * nothing shows that it has gone over a rival's, whose answer may have come before. So nobody writes on an older look than this, and
 * who has the key is known once so much has passed since the answer and it is read again (`SWAP_SETTLE_MS`).
 */
const SWAP_WINDOW_MS = 1000
export const SWAP_SETTLE_MS = 1250

/** What an operation has sent so far. */
export interface Trace {
  outcomeUnknown: boolean
}

/** Writes that leave one value under a key, whatever is lost on the way. */
export class Writer {
  readonly #access: Access
  readonly #log: Pick<Log, 'warn'>
  readonly #contexts = new Contexts()
  readonly #unsure = new UnsureDeletes()
  readonly #mutex = new KeyedMutex<string>()

  constructor(access: Access, log: Pick<Log, 'warn'>) {
    this.#access = access
    this.#log = log
  }

  /**
   * A `fresh` key is written under no context at all: if something was there after all, the answer shows it as a sibling,
   * which is then replaced. @throws StoreSuperseded, RiakError, TransportError
   */
  put(
    target: Target,
    object: ObjectToStore,
    { fresh = false, replaces }: PutOptions,
    deadline: Deadline,
    trace: Trace,
  ): Promise<void> {
    const content = encodeObject(object)
    return this.#exclusive(target, deadline, () => {
      this.#unsure.forget(target)
      return this.#repeat(target, deadline, trace, async (first) => {
        if (replaces !== undefined)
          return this.#swap(target, object.version, { content, replaces }, deadline, trace)
        const isNew = first && fresh && this.#contexts.isUntouched(target.id)
        const answer = isNew
          ? await tracked(trace, () => this.#access.store(target, content, undefined, deadline))
          : await this.#replace(target, object.version, content, deadline, trace)
        await this.#stored(target, object.version, content, answer, deadline)
      })
    })
  }

  /** Stores over what is there, under its context. @throws StoreSuperseded */
  async #replace(
    target: Target,
    version: ObjectVersion,
    content: ContentToStore,
    deadline: Deadline,
    trace: Trace,
  ): Promise<RiakAnswer> {
    const vclock = await this.#contextFor(target, version, deadline)
    return tracked(trace, () => this.#access.store(target, content, vclock, deadline))
  }

  /**
   * Stores over one version and no other. Two that do so at once have both found that version, and each puts its own beside
   * the other's. With majorities at least one of the two meets the other's in its answer; that one withdraws, whichever is the
   * higher, for the other may have got its answer already. Where siblings are not certain, see `SWAP_WINDOW_MS`.
   * @throws StoreSuperseded
   */
  async #swap(
    target: Target,
    version: ObjectVersion,
    { content, replaces }: { content: ContentToStore; replaces: ObjectVersion | 'nothing' },
    deadline: Deadline,
    trace: Trace,
  ): Promise<void> {
    using window = deadline.part(this.#access.keepsSiblings ? deadline.remainingMs : SWAP_WINDOW_MS)
    const { contents, vclock } = await this.#access.fetchAllHeads(target, window)
    const before = highestVersion(contents)
    assertNotSuperseded(target, before, version)
    if (!mayReplace(before, version, replaces))
      throw new StoreSuperseded(`${target.label}: another version is there than was to be replaced`)
    const answer = await tracked(trace, () => this.#access.store(target, content, vclock, window))
    const rival = highestVersion(answer.contents.filter((one) => !isOf(one, version)))
    const known = before !== undefined && compareVersions(before, version) === 0 ? undefined : before
    if (!isOlder(known, rival)) return this.#stored(target, version, content, answer, deadline)
    await this.#withdraw(target, version, deadline)
    throw new StoreSuperseded(`${target.label}: somebody else has stored there at the same time`)
  }

  /** Leaves under the key what is there beside that version. */
  async #withdraw(target: Target, version: ObjectVersion, deadline: Deadline): Promise<void> {
    try {
      const { contents, vclock } = await this.#access.fetch(target, { r: 'all', notfoundOk: true }, deadline)
      const others = resolve(contents.filter((one) => !isOf(one, version)))
      if (others.kind === 'object')
        await this.#access.store(target, encodeObject(others.object), vclock, deadline)
    } catch (error) {
      this.#log.warn(
        { key: target.label, err: error },
        'a version that was withdrawn could not be taken away',
      )
    }
  }

  /** @throws StoreSuperseded, RiakError, TransportError */
  delete(target: Target, version: ObjectVersion, deadline: Deadline, trace: Trace): Promise<void> {
    return this.#exclusive(target, deadline, async () => {
      // Until a tombstone under its context is acknowledged, what was written last is not held down.
      let written = this.#contexts.get(target.id)
      let isSure = !this.#contexts.isUnsure(target.id)
      await this.#repeat(target, deadline, trace, async () => {
        const seen = await this.#lookToDelete(target, deadline)
        isSure &&= seen.byOwners
        for (const context of contextsToDelete(target, version, seen.answer, written)) {
          await tracked(trace, () => this.#access.remove(target, context, deadline))
          if (written?.vclock.equals(context)) written = undefined
        }
      })
      this.#contexts.deleted(target.id)
      if (isSure) this.#unsure.forget(target)
      else this.#unsure.add(target, version)
    })
  }

  /** Heads of all who own the key; while one of them is away or does nothing, of all replicas, or of those that answer. */
  async #lookToDelete(
    target: Target,
    deadline: Deadline,
  ): Promise<{ readonly answer: RiakAnswer; readonly byOwners: boolean }> {
    using part = deadline.part(deadline.remainingMs / 3)
    try {
      return { answer: await this.#access.fetchOwners(target, part), byOwners: true }
    } catch (error) {
      if (deadline.signal.aborted) throw error
      return { answer: await this.#access.fetchAllHeads(target, deadline), byOwners: false }
    }
  }

  /**
   * Looks after deletes that did not reach everybody who may hold the object, until all owners of the key have been seen
   * without it for `settleMs`. What a stand-in kept comes to its owner some time after that is back, and may be a write that
   * the tombstone does not know of.
   */
  async lookAgain(settleMs: number, newDeadline: () => Deadline): Promise<void> {
    for (const one of this.#unsure.all()) {
      using deadline = newDeadline()
      try {
        await this.#exclusive(one.target, deadline, () => this.#lookAgainAt(one, settleMs, deadline))
      } catch {
        one.quietSince = undefined
      }
    }
  }

  async #lookAgainAt(one: UnsureDelete, settleMs: number, deadline: Deadline): Promise<void> {
    if (!this.#unsure.has(one)) return
    const { target, version } = one
    const { contents, vclock } = await this.#access.fetchOwners(target, deadline)
    const isBack = contents.some(({ tombstone }) => !tombstone)
    // Somebody has stored there since.
    if (isOlder(version, highestVersion(contents))) this.#unsure.forget(target)
    else if (isBack && vclock !== undefined) {
      one.quietSince = undefined
      await this.#access.remove(target, vclock, deadline)
    } else {
      one.quietSince ??= performance.now()
      if (performance.now() - one.quietSince >= settleMs) this.#unsure.forget(target)
    }
  }

  /** Writes the winner over all siblings, damaged copies among them. Best effort: who reads next resolves them as well. */
  async heal(target: Target, winner: StoredObject, vclock: Buffer, deadline: Deadline): Promise<void> {
    // A writer that is at work on the key folds the siblings itself.
    if (this.#mutex.isLocked(target.id)) return
    try {
      await this.#exclusive(target, deadline, async () => {
        const answer = await this.#access.store(target, encodeObject(winner), vclock, deadline)
        this.#remember(target, winner.version, answer)
      })
    } catch (error) {
      this.#contexts.doubt(target.id)
      this.#log.warn({ key: target.label, err: error }, 'siblings could not be replaced by their winner')
    }
  }

  /** Writes of one key come one after the other, so that each knows the context of the one before. */
  #exclusive<T>({ id }: Target, deadline: Deadline, body: () => Promise<T>): Promise<T> {
    const turn = this.#mutex.run(id, async () => {
      if (deadline.signal.aborted) throw deadline.signal.reason
      return await body()
    })
    return orAborted(turn, deadline.signal)
  }

  /**
   * Repeats `attempt` while its outcome is unknown; it then reads the key first. A put that is delivered twice with one
   * context makes a sibling, and a put whose acknowledgement was lost may be there.
   */
  async #repeat(
    target: Target,
    deadline: Deadline,
    trace: Trace,
    attempt: (first: boolean) => Promise<void>,
  ): Promise<void> {
    for (let count = 1; ; count++) {
      try {
        await attempt(count === 1)
        return
      } catch (error) {
        if (trace.outcomeUnknown) this.#contexts.doubt(target.id)
        const verdict = verdictOn(error)
        const isWorthIt = verdict !== undefined && verdict.as !== 'rejected' && trace.outcomeUnknown
        if (!isWorthIt || count >= MAX_WRITES || deadline.signal.aborted) throw error
        await orAborted(delay(PAUSES_MS[count - 1]), deadline.signal)
      }
    }
  }

  /** The context under which a version may be written. @throws StoreSuperseded */
  async #contextFor(target: Target, version: ObjectVersion, deadline: Deadline): Promise<Buffer | undefined> {
    const written = this.#contexts.get(target.id)
    if (written !== undefined && !written.doubtful && !isOlder(version, written.version))
      return written.vclock
    const { contents, vclock } = this.#contexts.isDoubtful(target.id)
      ? await this.#access.fetchAllHeads(target, deadline)
      : await this.#access.fetchHead(target, deadline)
    const highest = highestVersion(contents)
    assertNotSuperseded(target, highest, version)
    // Replicas that do not know what this process wrote: their context would not cover it.
    return written !== undefined && isOlder(highest, written.version) ? written.vclock : vclock
  }

  /** A put is acknowledged; its answer tells what else is under the key. @throws StoreSuperseded */
  async #stored(
    target: Target,
    version: ObjectVersion,
    content: ContentToStore,
    answer: RiakAnswer,
    deadline: Deadline,
  ): Promise<void> {
    this.#remember(target, version, answer)
    assertNotSuperseded(target, highestVersion(answer.contents), version)
    if (answer.contents.length < 2 || answer.vclock === undefined) return
    try {
      const folded = await this.#access.store(target, content, answer.vclock, deadline)
      this.#remember(target, version, folded)
    } catch (error) {
      // The version is acknowledged all the same; who reads resolves the siblings, the next put replaces them.
      this.#contexts.doubt(target.id)
      this.#log.warn(
        { key: target.label, err: error },
        'siblings could not be replaced by the version just stored',
      )
    }
  }

  #remember({ space, id }: Target, version: ObjectVersion, { contents, vclock }: RiakAnswer): void {
    // A chunk is written once: its context would only push out that of something else.
    if (vclock === undefined || space === 'chunks') this.#contexts.forget(id)
    else
      this.#contexts.set(id, {
        version: highestVersion(contents) ?? version,
        vclock,
        doubtful: contents.length > 1,
      })
  }
}

/**
 * The contexts that tombstones have to have, none where there is nothing to delete. A tombstone that has not seen a write does
 * not hold it down, and tombstones have no versions. Where nothing newer is seen than what this process wrote last under
 * another context, neither context need cover the other, and each gets its tombstone. @throws StoreSuperseded
 */
function contextsToDelete(
  target: Target,
  version: ObjectVersion,
  { contents, vclock }: RiakAnswer,
  written: Context | undefined,
): Buffer[] {
  assertNotSuperseded(target, written?.version, version)
  const highest = highestVersion(contents)
  assertNotSuperseded(target, highest, version)
  if (vclock !== undefined && contents.some(({ tombstone }) => !tombstone)) {
    const isOther =
      written !== undefined && !written.vclock.equals(vclock) && !isOlder(written.version, highest)
    return isOther ? [vclock, written.vclock] : [vclock]
  }
  return written === undefined ? [] : [written.vclock]
}

function isOf(content: RiakContent, version: ObjectVersion): boolean {
  const own = versionOf(content)
  return own !== undefined && compareVersions(own, version) === 0
}

/** Whether `a` is older than `b`; what is not there is older than anything. */
function isOlder(a: ObjectVersion | undefined, b: ObjectVersion | undefined): boolean {
  return b !== undefined && (a === undefined || compareVersions(a, b) < 0)
}

function assertNotSuperseded(
  { label }: Target,
  found: ObjectVersion | undefined,
  version: ObjectVersion,
): void {
  if (found === undefined || compareVersions(found, version) <= 0) return
  throw new StoreSuperseded(
    `${label}: version ${versionText(found)} is there, which is newer than ${versionText(version)}`,
  )
}

/** Notes that a write may have taken effect, unless its failure says that it was not even sent. */
async function tracked<T>(trace: Trace, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    if (verdictOn(error)?.outcomeUnknown ?? true) trace.outcomeUnknown = true
    throw error
  }
}
