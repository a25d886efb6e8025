import { type BucketProps, expandQuorum, mergeRules } from './bucket-props.ts'
import type { ClusterView } from './get-fsm.ts'
import { type RiakObject, reconcile } from './object.ts'
import type { Put, PutOptions, PutReply } from './requests.ts'
import type { PreflistEntry } from './ring.ts'

interface Quorums {
  readonly n: number
  readonly w: number
  readonly pw: number
  readonly dw: number
}

/** riak_kv_put_fsm:validate/2 */
function invalid({ n, w, pw, dw }: Quorums, preflist: readonly PreflistEntry[]): string | undefined {
  const primaries = preflist.filter(({ primary }) => primary).length
  const need = Math.max(1, w, dw, pw)
  if (w > n || dw > n || pw > n) return `{n_val_violation,${n}}`
  if (pw > primaries) return `{pw_val_unsatisfied,${pw},${primaries}}`
  if (preflist.length < need) return `{insufficient_vnodes,${preflist.length},need,${need}}`
  return undefined
}

/** riak_kv_put_core.erl */
class PutCore {
  readonly objects: RiakObject[] = []
  readonly #quorums: Quorums
  #primaries = 0
  #failed = 0

  constructor(quorums: Quorums) {
    this.#quorums = quorums
  }

  stored(entry: PreflistEntry, object: RiakObject): void {
    this.objects.push(object)
    if (entry.primary) this.#primaries++
  }

  failed(): void {
    this.#failed++
  }

  /** enough/1 */
  get enough(): boolean {
    const { n, pw, dw } = this.#quorums
    return (
      this.#met || this.#failed > n - pw || this.#failed > n - dw || this.objects.length + this.#failed >= n
    )
  }

  get #met(): boolean {
    const { w, pw, dw } = this.#quorums
    return this.objects.length >= Math.max(w, dw) && this.#primaries >= pw
  }

  /** response/1 */
  get reason(): string | undefined {
    const { w, pw, dw } = this.#quorums
    if (this.#met) return undefined
    const stored = this.objects.length
    if ((stored >= w && stored >= dw && this.#primaries < pw) || pw >= dw) {
      return `{pw_val_unsatisfied,${pw},${this.#primaries}}`
    }
    return `{dw_val_unsatisfied,${dw},${stored}}`
  }
}

/** select_coordinator/3: a vnode of this node if it holds one of the replicas, else any other that is to be had. */
function coordinator(
  view: ClusterView,
  node: string,
  preflist: readonly PreflistEntry[],
): PreflistEntry | undefined {
  const local = view.shuffle(preflist.filter((entry) => entry.node === node))
  return [...local, ...view.shuffle(preflist)].find((entry) => view.answers(entry.node))
}

/**
 * riak_kv_put_fsm.erl: one vnode counts the put, the others take what it made. Replicas that come after the quorum are
 * written all the same.
 */
export function coordinatePut(
  view: ClusterView,
  node: string,
  put: Put,
  props: BucketProps,
  options: PutOptions,
): PutReply {
  if (options.nVal !== undefined && (options.nVal < 1 || options.nVal > props.nVal)) {
    return { kind: 'error', reason: `{n_val_violation,${options.nVal}}` }
  }
  const n = options.nVal ?? props.nVal
  const preflist = view.preflist(put.target, n, options.sloppyQuorum ?? true)
  if (preflist.length === 0) return { kind: 'error', reason: 'all_nodes_down' }
  const quorums = {
    n,
    w: expandQuorum('w', options.w, props, n),
    pw: expandQuorum('pw', options.pw, props, n),
    // "DW must always be 1 with node-based vclocks."
    dw: Math.max(1, expandQuorum('dw', options.dw, props, n)),
  }
  const refused = invalid(quorums, preflist)
  if (refused !== undefined) return { kind: 'error', reason: refused }

  const first = coordinator(view, node, preflist)
  if (first === undefined) return { kind: 'never' }
  const rules = (entry: PreflistEntry) => view.rules(entry.node, put.target)
  const coordinated = view.vnode(first).coordinate(put.target.id, put, rules(first))
  // "Local vnode failure is enough to sink whole operation"
  if ('fail' in coordinated) return { kind: 'error', reason: coordinated.fail }

  const core = new PutCore(quorums)
  core.stored(first, coordinated.object)
  let reply = core.enough ? answer(core, props, options) : undefined
  for (const entry of view.shuffle(preflist.filter((one) => one !== first && view.answers(one.node)))) {
    const result = view.vnode(entry).replicate(put.target.id, coordinated.object, rules(entry))
    if ('fail' in result) core.failed()
    else core.stored(entry, result.object)
    if (core.enough) reply ??= answer(core, props, options)
  }
  return reply ?? { kind: 'never' }
}

function answer(core: PutCore, props: BucketProps, options: PutOptions): PutReply {
  const { reason } = core
  if (reason !== undefined) return { kind: 'error', reason }
  return options.returnBody
    ? { kind: 'ok', object: reconcile(core.objects, mergeRules(props)) }
    : { kind: 'ok' }
}
