import type { Clock } from './clock.ts'
import {
  type Content,
  counted,
  enforceAllowMult,
  isDeleted,
  type MergeRules,
  type RiakObject,
  sameObject,
  storedSize,
  syntacticMerge,
  update,
} from './object.ts'
import { dominates, increment, sameClock, type VClock } from './vclock.ts'

/** What becomes of tombstones (riak_kv.delete_mode): kept, removed at once, or removed after these milliseconds. */
export type DeleteMode = 'keep' | 'immediate' | number

/** riak_kv.max_object_size and riak_kv.max_siblings, as delivered. */
const MAX_OBJECT_SIZE = 50 * 1024 * 1024
const MAX_SIBLINGS = 100

/** A vnode's answer to a put: what it now holds, or the reason of `{error, Reason}` as an Erlang term. */
export type PutResult = { readonly object: RiakObject } | { readonly fail: string }

export interface VnodeSettings {
  readonly clock: Clock
  readonly deleteMode: DeleteMode
  /** A write is acknowledged and then not there: the replica that missed it. */
  losesWrite(id: string): boolean
  /** What a read hands out instead of the bytes stored. */
  readValue(id: string, value: Buffer): Buffer
}

/**
 * One partition on one node, owner or fallback, after riak_kv_vnode.erl. What it holds outlives a kill of its node, as
 * files do.
 */
export class Vnode {
  readonly partition: number
  readonly node: string
  readonly #settings: VnodeSettings
  readonly #objects = new Map<string, RiakObject>()
  #epochs = 0

  constructor(partition: number, node: string, settings: VnodeSettings) {
    this.partition = partition
    this.node = node
    this.#settings = settings
  }

  get ids(): string[] {
    return [...this.#objects.keys()]
  }

  /** do_get/4 */
  get(id: string): RiakObject | undefined {
    const object = this.#objects.get(id)
    if (object === undefined) return undefined
    const contents = object.contents.map((content) => {
      const value = this.#settings.readValue(id, content.value)
      return value === content.value ? content : { ...content, value }
    })
    return { ...object, contents }
  }

  /** do_put/7 with `coord`: the put is counted here, and what comes out goes to the other replicas. */
  coordinate(id: string, put: { content: Content; clock: VClock }, rules: MergeRules): PutResult {
    const old = this.#objects.get(id)
    // maybe_new_key_epoch/4: a vnode that does not know the key takes a name it never used before.
    if (old === undefined)
      return this.#store(id, counted(put.content, put.clock, this.#newActor(), rules.dvv))
    const actor = this.#forgot(old.clock, put.clock) ? this.#newActor() : this.#actorOf(old.clock)
    return this.#store(id, enforceAllowMult(update(old, put, actor, rules), rules))
  }

  /** put_merge/6 without `coord`: a write from the coordinator, a read repair or a handoff. */
  replicate(id: string, incoming: RiakObject, rules: MergeRules): PutResult {
    const old = this.#objects.get(id)
    if (old === undefined) {
      // maybe_new_actor_epoch/2: the clock tells of puts counted here that this vnode has forgotten.
      const known = this.#highest(incoming.clock)[1] > 0
      return this.#store(
        id,
        known ? { ...incoming, clock: increment(incoming.clock, this.#newActor()) } : incoming,
      )
    }
    if (rules.lastWriteWins) return this.#store(id, incoming)
    const merged = syntacticMerge(old, incoming, rules.dvv)
    if (this.#forgot(old.clock, incoming.clock)) {
      return this.#store(
        id,
        enforceAllowMult({ ...merged, clock: increment(merged.clock, this.#newActor()) }, rules),
      )
    }
    return sameObject(merged, old) ? { object: old } : this.#store(id, enforceAllowMult(merged, rules))
  }

  /** do_delete/2: a tombstone goes, now or later, if it is then still the same one. */
  reap(id: string): void {
    const object = this.#objects.get(id)
    const { deleteMode, clock } = this.#settings
    if (object === undefined || !isDeleted(object) || deleteMode === 'keep') return
    if (deleteMode === 'immediate') this.#objects.delete(id)
    else {
      clock.after(deleteMode, () => {
        const now = this.#objects.get(id)
        if (now !== undefined && isDeleted(now) && sameClock(now.clock, object.clock))
          this.#objects.delete(id)
      })
    }
  }

  /** Flips a bit of every sibling's value where it is stored. */
  damage(id: string): void {
    const object = this.#objects.get(id)
    if (object === undefined) return
    const contents = object.contents.map((content) => {
      const value = Buffer.from(content.value)
      if (value.length > 0) value.writeUInt8(value.readUInt8(0) ^ 1, 0)
      return { ...content, value }
    })
    this.#objects.set(id, { ...object, contents })
  }

  /** Handed over: the copy goes. */
  drop(id: string): void {
    this.#objects.delete(id)
  }

  /** encode_and_put/8 */
  #store(id: string, object: RiakObject): PutResult {
    if (object.contents.length > MAX_SIBLINGS)
      return { fail: `{too_many_siblings,${object.contents.length}}` }
    const size = storedSize(object)
    if (size > MAX_OBJECT_SIZE) return { fail: `{too_large,${size}}` }
    if (!this.#settings.losesWrite(id)) this.#objects.set(id, object)
    return { object }
  }

  get #name(): string {
    return `${this.node}/${this.partition}`
  }

  /** new_key_epoch/1 */
  #newActor(): string {
    return `${this.#name}#${++this.#epochs}`
  }

  /** highest_actor/2: this vnode's latest name in a clock, with its epoch and count. */
  #highest(clock: VClock): [epoch: number, counter: number] {
    let best: [number, number] = [0, 0]
    for (const [actor, counter] of clock) {
      const [name, epoch] = actor.split('#')
      if (name === this.#name && Number(epoch) >= best[0]) best = [Number(epoch), counter]
    }
    return best
  }

  #actorOf(clock: VClock): string {
    return `${this.#name}#${this.#highest(clock)[0]}`
  }

  /** is_local_amnesia/4 */
  #forgot(local: VClock, incoming: VClock): boolean {
    const [localEpoch, localCount] = this.#highest(local)
    const [epoch, count] = this.#highest(incoming)
    return epoch > localEpoch || (epoch === localEpoch && count > localCount)
  }
}

/** Whether the replica needs the merged object (riak_kv_get_core:final_action/1, strict_descendant/2). */
export function outOfDate(replica: RiakObject, merged: RiakObject): boolean {
  return dominates(merged.clock, replica.clock)
}
