import { type BucketProps, expandQuorum, mergeRules } from './bucket-props.ts'
import { isDeleted, type MergeRules, type RiakObject, reconcile } from './object.ts'
import type { GetOptions, GetReply } from './requests.ts'
import type { BucketKey, PreflistEntry } from './ring.ts'
import { outOfDate, type Vnode } from './vnode.ts'

/** What a request coordinator sees of the cluster from its node. */
export interface ClusterView {
  /** Preference list as this node would use it now; without sloppy quorums only the owners that are up. */
  preflist(target: BucketKey, n: number, sloppy: boolean): PreflistEntry[]
  vnode(entry: PreflistEntry): Vnode
  /** How a node's vnodes put objects together: by the properties of which that node has heard. */
  rules(node: string, target: BucketKey): MergeRules
  /** Whether the vnode answers at all: one on a paused node does not. */
  answers(node: string): boolean
  shuffle<T>(items: readonly T[]): T[]
}

interface Replica {
  readonly entry: PreflistEntry
  readonly object: RiakObject | undefined
}

interface Quorums {
  readonly n: number
  readonly r: number
  readonly pr: number
}

/** riak_kv_get_fsm:validate_quorum/9 */
function invalid({ n, r, pr }: Quorums, preflist: readonly PreflistEntry[]): string | undefined {
  const primaries = preflist.filter(({ primary }) => primary).length
  if (r > n || pr > n) return `{n_val_violation,${n}}`
  if (pr > primaries) return `{pr_val_unsatisfied,${pr},${primaries}}`
  if (r > preflist.length) return `{insufficient_vnodes,${preflist.length},need,${r}}`
  return undefined
}

/** riak_kv_get_core.erl: the replicas that have answered so far, and what they make. */
class GetCore {
  readonly replicas: Replica[] = []
  readonly #quorums: Quorums
  readonly #failThreshold: number
  readonly #notfoundOk: boolean
  readonly #rules: MergeRules

  constructor(quorums: Quorums, options: GetOptions, props: BucketProps) {
    this.#quorums = quorums
    this.#notfoundOk = options.notfoundOk ?? props.notfoundOk
    this.#rules = mergeRules(props)
    // riak_kv_get_fsm:validate/2
    const { n, r, pr } = quorums
    const cannot = n - Math.max(r, pr) + 1
    this.#failThreshold =
      (options.basicQuorum ?? props.basicQuorum) ? Math.min(Math.floor(n / 2) + 1, cannot) : cannot
  }

  get #ok(): Replica[] {
    return this.replicas.filter(({ object }) => object !== undefined || this.#notfoundOk)
  }

  get #primaryOk(): number {
    return this.#ok.filter(({ entry }) => entry.primary).length
  }

  get #met(): boolean {
    return this.#ok.length >= this.#quorums.r && this.#primaryOk >= this.#quorums.pr
  }

  /** enough/1 */
  get enough(): boolean {
    const notFound = this.replicas.length - this.#ok.length
    return this.#met || notFound >= this.#failThreshold || this.replicas.length >= this.#quorums.n
  }

  /** merge/2 */
  merged(): RiakObject | undefined {
    const objects = this.replicas.map(({ object }) => object).filter((object) => object !== undefined)
    return objects.length === 0 ? undefined : reconcile(objects, this.#rules)
  }

  /** response/1 */
  response(deletedVclock: boolean): GetReply {
    const { r, pr } = this.#quorums
    const merged = this.merged()
    if (this.#met) {
      if (merged === undefined) return { kind: 'notfound' }
      if (!isDeleted(merged)) return { kind: 'object', object: merged }
      return deletedVclock ? { kind: 'deleted', clock: merged.clock } : { kind: 'notfound' }
    }
    const ok = this.#ok.length
    const live = this.#ok.filter(({ object }) => object === undefined || !isDeleted(object)).length
    if (live === 0) return { kind: 'notfound' }
    const primaryUnmet = (pr > 0 && this.#primaryOk < pr && ok >= r) || pr >= r
    const reason = primaryUnmet
      ? `{pr_val_unsatisfied,${pr},${this.#primaryOk}}`
      : `{r_val_unsatisfied,${r},${ok}}`
    return { kind: 'error', reason }
  }
}

/**
 * riak_kv_get_fsm.erl. The replicas answer in an order of chance, the client gets what the first ones give that are
 * enough, and when all have answered the stale and the empty ones are repaired (finalize/1). Release 3 asks for heads
 * first, and fetches the best it has heard of by then; here, as in release 2, the first that are enough decide, which is
 * the harder case for a client.
 */
export function coordinateGet(
  view: ClusterView,
  target: BucketKey,
  props: BucketProps,
  options: GetOptions,
): GetReply {
  if (options.nVal !== undefined && (options.nVal < 1 || options.nVal > props.nVal)) {
    return { kind: 'error', reason: `{n_val_violation,${options.nVal}}` }
  }
  const n = options.nVal ?? props.nVal
  const preflist = view.preflist(target, n, options.sloppyQuorum ?? true)
  const quorums = {
    n,
    r: expandQuorum('r', options.r, props, n),
    pr: expandQuorum('pr', options.pr, props, n),
  }
  const reason = invalid(quorums, preflist)
  if (reason !== undefined) return { kind: 'error', reason }

  const core = new GetCore(quorums, options, props)
  let reply: GetReply | undefined
  for (const entry of view.shuffle(preflist.filter(({ node }) => view.answers(node)))) {
    core.replicas.push({ entry, object: view.vnode(entry).get(target.id) })
    if (reply === undefined && core.enough) reply = core.response(options.deletedVclock)
  }
  finalize(view, target, core, { n, preflist, custom: options.nVal !== undefined })
  return reply ?? { kind: 'never' }
}

/** riak_kv_get_core:final_action/1: repair what is behind; reap a tombstone that every owner holds. */
function finalize(
  view: ClusterView,
  target: BucketKey,
  core: GetCore,
  request: { n: number; preflist: readonly PreflistEntry[]; custom: boolean },
): void {
  const merged = core.merged()
  if (merged === undefined) return
  for (const { entry, object } of core.replicas) {
    if (object === undefined || outOfDate(object, merged)) {
      view.vnode(entry).replicate(target.id, merged, view.rules(entry.node, target))
    }
  }
  const everywhere = core.replicas.filter(({ object }) => object !== undefined).length === request.n
  const owners = request.preflist.length === request.n && request.preflist.every(({ primary }) => primary)
  if (isDeleted(merged) && everywhere && owners && !request.custom) {
    for (const entry of request.preflist) view.vnode(entry).reap(target.id)
  }
}
