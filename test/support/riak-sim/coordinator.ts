import type { BucketProps } from './bucket-props.ts'
import { expandQuorum, type Quorum } from './bucket-props.ts'
import { makeVtag } from './content.ts'
import { coordinateGet } from './get-fsm.ts'
import { tombstone } from './object.ts'
import { coordinatePut } from './put-fsm.ts'
import type { GetOptions, GetReply, Put, PutOptions, PutReply } from './requests.ts'
import type { BucketKey } from './ring.ts'
import type { ClusterState } from './state.ts'
import type { VClock } from './vclock.ts'

export interface DeleteOptions {
  readonly r: Quorum
  readonly w: Quorum
  readonly pr: Quorum
  readonly pw: Quorum
  readonly dw: Quorum
  readonly rw: Quorum
  readonly timeout?: number
}

/** riak_kv_delete.erl, TOMB_PAUSE: milliseconds before a delete tries to reap its tombstone. */
const TOMB_PAUSE = 2

/** Requests as one node coordinates them (riak_client.erl). */
export class Coordinator {
  readonly #state: ClusterState
  readonly #node: string

  constructor(state: ClusterState, node: string) {
    this.#state = state
    this.#node = node
  }

  get(target: BucketKey, options: GetOptions): GetReply {
    const props = this.#state.propsOf(target.bucket, this.#node)
    if (props === undefined) return { kind: 'error', reason: 'no_type' }
    return coordinateGet(this.#state.viewFrom(this.#node), target, props, options)
  }

  put(put: Put, options: PutOptions): PutReply {
    const props = this.#state.propsOf(put.target.bucket, this.#node)
    if (props === undefined) return { kind: 'error', reason: 'no_type' }
    return coordinatePut(this.#state.viewFrom(this.#node), this.#node, put, props, options)
  }

  /** riak_kv_delete:delete/8: a tombstone is put; some time later a read of all replicas has it reaped. */
  delete(
    target: BucketKey,
    clock: VClock | undefined,
    options: DeleteOptions,
  ): PutReply | { readonly kind: 'notfound' } {
    const props = this.#state.propsOf(target.bucket, this.#node)
    if (props === undefined) return { kind: 'error', reason: 'no_type' }
    if (clock === undefined) {
      const found = this.get(target, {
        r: this.#readQuorum(options, props),
        pr: options.pr,
        deletedVclock: false,
      })
      if (found.kind === 'error' || found.kind === 'never' || found.kind === 'notfound') return found
      return this.delete(target, found.kind === 'deleted' ? found.clock : found.object.clock, options)
    }
    const now = this.#state.clock.now()
    const w = options.w === 'default' ? this.#writeDefault(options, props) : options.w
    const put = { target, content: tombstone(now, makeVtag(now)), clock }
    const reply = this.put(put, { w, pw: options.pw, dw: options.dw, returnBody: false })
    if (reply.kind === 'ok') {
      this.#state.clock.after(TOMB_PAUSE, () =>
        this.get(target, { r: 'all', pr: 'default', deletedVclock: false }),
      )
    }
    return reply
  }

  /** get_r_options/2: `rw` where neither `r` nor `w` is given. */
  #readQuorum({ r, w, rw }: DeleteOptions, props: BucketProps): Quorum {
    return r === 'default' && w === 'default' ? expandQuorum('rw', rw, props, props.nVal) : r
  }

  /** get_w_options/2 */
  #writeDefault({ rw }: DeleteOptions, props: BucketProps): Quorum {
    return expandQuorum('rw', rw, props, props.nVal)
  }
}
