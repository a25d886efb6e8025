import type { KeySpace } from '../contract.ts'
import * as riak from './client.ts'
import type { RiakCluster } from './cluster.ts'
import type { Deadline } from './deadline.ts'
import type { RiakNode } from './node.ts'
import type { Quorum } from './url.ts'

/** One key, as messages and requests name it. */
export interface Target {
  readonly space: KeySpace
  /** For maps. */
  readonly id: string
  readonly name: riak.ObjectName
  /** For messages. */
  readonly label: string
}

/** How to look for an object. */
export interface Step {
  readonly r: Quorum
  /** An empty replica counts as an answer. */
  readonly notfoundOk: boolean
  readonly head?: boolean
  /** So many owners of the key, not stand-ins, have to be among those that answer. */
  readonly pr?: Quorum
  /** Ask this node and no other. */
  readonly node?: RiakNode
}

/**
 * Who owns the namespace (space `meta`) is asked of a majority of the key's own replicas, and told to a majority: of two
 * sides of a split network at most one has it. A quorum of stand-ins says "not found" of what they never had, and takes
 * whatever it is given.
 */
export function isOwnership({ space }: Target): boolean {
  return space === 'meta'
}

const MAJORITY = { w: 'quorum', dw: 'quorum', pw: 'quorum' } as const

/** The single requests on one key, with the quorums of the URL. */
export class Access {
  readonly cluster: RiakCluster
  readonly quorums: { readonly r: Quorum; readonly w: Quorum; readonly dw: Quorum }
  /** Every node is known to: it is a property of the bucket type. Untyped buckets tell each other, and some may not have heard. */
  readonly keepsSiblings: boolean

  constructor(cluster: RiakCluster, { type, ...quorums }: Access['quorums'] & { readonly type: string }) {
    this.cluster = cluster
    this.quorums = quorums
    this.keepsSiblings = type !== 'default'
  }

  fetch(target: Target, step: Step, deadline: Deadline): Promise<riak.RiakAnswer> {
    const { r, notfoundOk, head = false, node } = step
    const pr = step.pr ?? (isOwnership(target) ? 'quorum' : undefined)
    const make = (timeoutMs: number) => riak.fetch(target.name, { r, pr, notfoundOk, head, timeoutMs })
    return this.cluster.read(make, deadline, node && [node])
  }

  /** What all owners of the key hold. @throws RiakError `pr_val_unsatisfied` while one of them is away */
  fetchOwners(target: Target, deadline: Deadline): Promise<riak.RiakAnswer> {
    return this.fetch(target, { r: 'all', pr: 'all', notfoundOk: true, head: true }, deadline)
  }

  /** What is under the key, tombstones included: versions and the causal context. */
  fetchHead(target: Target, deadline: Deadline): Promise<riak.RiakAnswer> {
    return this.fetch(target, { r: 'quorum', notfoundOk: true, head: true }, deadline)
  }

  /**
   * As `fetchHead`, with what each replica holds, so that a write of which nobody knows where it arrived is in the context. A
   * node that does nothing keeps such an answer away: then, with most of the time left, what a quorum shows.
   */
  async fetchAllHeads(target: Target, deadline: Deadline): Promise<riak.RiakAnswer> {
    using part = deadline.part(deadline.remainingMs / 3)
    try {
      return await this.fetch(target, { r: 'all', notfoundOk: true, head: true }, part)
    } catch (error) {
      if (deadline.signal.aborted) throw error
      return await this.fetchHead(target, deadline)
    }
  }

  store(
    target: Target,
    content: riak.ContentToStore,
    vclock: Buffer | undefined,
    deadline: Deadline,
  ): Promise<riak.RiakAnswer> {
    const { name } = target
    const quorums = isOwnership(target) ? MAJORITY : this.quorums
    return this.cluster.write(
      (timeoutMs) => riak.store(name, content, vclock, { ...quorums, timeoutMs }),
      deadline,
    )
  }

  remove({ name }: Target, vclock: Buffer, deadline: Deadline): Promise<void> {
    const { w, dw } = this.quorums
    return this.cluster.write((timeoutMs) => riak.remove(name, vclock, { w, dw, timeoutMs }), deadline)
  }
}
