import {
  type Dot,
  descends,
  descendsDot,
  dominates,
  increment,
  mergeClocks,
  sameClock,
  type VClock,
} from './vclock.ts'

/** Objects and their merging, after riak_object.erl of riak_kv (functions named at each). */
export interface Pair {
  readonly key: Buffer
  readonly value: Buffer
}

export interface Link {
  readonly bucket: Buffer
  readonly key: Buffer
  readonly tag: Buffer
}

export interface Content {
  readonly value: Buffer
  readonly contentType?: Buffer
  readonly charset?: Buffer
  readonly contentEncoding?: Buffer
  readonly links: readonly Link[]
  readonly usermeta: readonly Pair[]
  readonly indexes: readonly Pair[]
  readonly vtag: string
  /** Microseconds since the epoch. */
  readonly lastModified: number
  readonly deleted: boolean
  /** Absent where the bucket has no dotted version vectors (untyped buckets). */
  readonly dot?: Dot
}

export interface RiakObject {
  readonly contents: readonly Content[]
  readonly clock: VClock
}

/** Properties of a bucket that decide how objects merge. */
export interface MergeRules {
  readonly allowMult: boolean
  readonly lastWriteWins: boolean
  readonly dvv: boolean
}

/** riak_kv_util:is_x_deleted/1: nothing but tombstones. */
export function isDeleted(object: RiakObject): boolean {
  return object.contents.every((content) => content.deleted)
}

/** riak_object:compare/2 with compare_metadata/2: by value, then by the size of the metadata, then by the metadata. */
function compareContents(a: Content, b: Content): number {
  if (a === b) return 0
  return (
    Buffer.compare(a.value, b.value) ||
    metadataSize(a) - metadataSize(b) ||
    // X-Riak-Last-Modified is the first of the sorted dictionary's entries that are likely to differ.
    a.lastModified - b.lastModified ||
    compareText(signature(a), signature(b))
  )
}

function metadataSize(content: Content): number {
  const { contentType, charset, contentEncoding, links, usermeta, indexes } = content
  const fields = [contentType, charset, contentEncoding].filter((field) => field !== undefined).length
  return (
    fields + [links, usermeta, indexes].filter((list) => list.length > 0).length + (content.deleted ? 1 : 0)
  )
}

function signature({ value: _value, ...metadata }: Content): string {
  return JSON.stringify(metadata)
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

/** lists:usort/2 with riak_object:compare/2 */
function sortUnique(contents: readonly Content[]): Content[] {
  const sorted = [...contents].sort(compareContents)
  return sorted.filter((content, index) => {
    const previous = sorted[index - 1]
    return previous === undefined || compareContents(previous, content) !== 0
  })
}

export function sameObject(a: RiakObject, b: RiakObject): boolean {
  if (a === b) return true
  if (a.contents.length !== b.contents.length || !sameClock(a.clock, b.clock)) return false
  const left = sortUnique(a.contents)
  return sortUnique(b.contents).every((content, index) => {
    const other = left[index]
    return other !== undefined && compareContents(other, content) === 0
  })
}

const dotName = (dot: Dot): string => `${dot.actor} ${dot.counter}`

/**
 * riak_object:merge_contents/3. With dotted version vectors (fold_contents/3) a sibling goes if the other object's clock
 * has seen its event and the other object no longer holds it; without them every different sibling stays.
 */
function mergeContents(a: RiakObject, b: RiakObject, dvv: boolean): Content[] {
  if (!dvv) return sortUnique([...a.contents, ...b.contents])
  const dropped = new Map<string, Content>()
  const kept: Content[] = []
  const fold = (contents: readonly Content[], clock: VClock): void => {
    for (const content of contents) {
      const { dot } = content
      if (dot === undefined || !descendsDot(clock, dot)) kept.push(content)
      else {
        const same = dropped.get(dotName(dot))
        if (same === undefined) dropped.set(dotName(dot), content)
        else kept.push(content, same)
      }
    }
  }
  fold(b.contents, a.clock)
  fold(a.contents, b.clock)
  return sortUnique(kept)
}

function merge(a: RiakObject, b: RiakObject, dvv: boolean): RiakObject {
  return { contents: mergeContents(a, b, dvv), clock: mergeClocks(a.clock, b.clock) }
}

/** riak_object:syntactic_merge/2 */
export function syntacticMerge(current: RiakObject, incoming: RiakObject, dvv: boolean): RiakObject {
  if (dominates(current.clock, incoming.clock)) return current
  if (dominates(incoming.clock, current.clock)) return incoming
  return merge(current, incoming, dvv)
}

/** riak_object:reconcile/2: one object out of what several replicas hold. */
export function reconcile(objects: readonly RiakObject[], rules: MergeRules): RiakObject {
  const undominated = objects.filter((one) => !objects.some((other) => dominates(other.clock, one.clock)))
  const unique: RiakObject[] = []
  for (const object of undominated) {
    if (!unique.some((other) => sameObject(other, object))) unique.push(object)
  }
  const merged = unique.reduce((result, object) => syntacticMerge(result, object, rules.dvv))
  if (rules.allowMult || merged.contents.length < 2) return merged
  return { clock: merged.clock, contents: [newest(merged.contents)] }
}

/** riak_object:most_recent_content/1: the later one, and of two of the same time the one that is no tombstone. */
function newest(contents: readonly Content[]): Content {
  return contents.reduce((best, one) => {
    if (one.lastModified !== best.lastModified) return one.lastModified > best.lastModified ? one : best
    if (one.deleted !== best.deleted) return one.deleted ? best : one
    return compareContents(one, best) < 0 ? one : best
  })
}

function withDot(content: Content, dot: Dot, dvv: boolean): Content {
  return dvv ? { ...content, dot } : content
}

/** riak_object:increment_vclock/3 of an object with one content. */
export function counted(content: Content, clock: VClock, actor: string, dvv: boolean): RiakObject {
  const next = increment(clock, actor)
  return { clock: next, contents: [withDot(content, { actor, counter: next.get(actor) ?? 0 }, dvv)] }
}

/**
 * riak_object:update/5: what a coordinating vnode stores for a put with the client's clock. If the clock has seen
 * everything the put replaces; otherwise it becomes a sibling.
 */
export function update(
  old: RiakObject,
  put: { content: Content; clock: VClock },
  actor: string,
  rules: MergeRules,
): RiakObject {
  if (rules.lastWriteWins || descends(put.clock, old.clock))
    return counted(put.content, put.clock, actor, rules.dvv)
  const frontier = increment(mergeClocks(put.clock, old.clock), actor)
  const content = withDot(put.content, { actor, counter: frontier.get(actor) ?? 0 }, rules.dvv)
  const merged = merge({ contents: [content], clock: put.clock }, old, rules.dvv)
  return { contents: merged.contents, clock: frontier }
}

/** riak_kv_vnode:enforce_allow_mult/3 */
export function enforceAllowMult(object: RiakObject, rules: MergeRules): RiakObject {
  if (rules.allowMult || object.contents.length < 2) return object
  return { clock: object.clock, contents: [newest(object.contents)] }
}

export function tombstone(now: number, vtag: string): Content {
  return {
    value: Buffer.alloc(0),
    links: [],
    usermeta: [],
    indexes: [],
    vtag,
    lastModified: now,
    deleted: true,
  }
}

/**
 * Bytes of the stored object, as `{too_large,N}` counts them (riak_object:to_binary/2, version 1). An object of one
 * content without a type took 110 bytes more than its value (recordings/one-node.jsonl, 51 MiB).
 */
export function storedSize(object: RiakObject): number {
  const pairs = (list: readonly Pair[]): number =>
    list.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
  return object.contents.reduce(
    (sum, content) =>
      sum +
      110 +
      content.value.length +
      (content.contentType?.length ?? 0) +
      pairs(content.usermeta) +
      pairs(content.indexes),
    0,
  )
}
