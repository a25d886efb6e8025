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
  /** Ask this node and no other. */
  readonly node?: RiakNode
}

/** The single requests on one key, with the quorums of the URL. */
export class Access {
  readonly cluster: RiakCluster
  readonly quorums: { readonly r: Quorum; readonly w: Quorum; readonly dw: Quorum }

  constructor(cluster: RiakCluster, quorums: Access['quorums']) {
    this.cluster = cluster
    this.quorums = quorums
  }

  fetch({ name }: Target, step: Step, deadline: Deadline): Promise<riak.RiakAnswer> {
    const { r, notfoundOk, head = false, node } = step
    const make = (timeoutMs: number) => riak.fetch(name, { r, notfoundOk, head, timeoutMs })
    return this.cluster.read(make, deadline, node && [node])
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
    { name }: Target,
    content: riak.ContentToStore,
    vclock: Buffer | undefined,
    deadline: Deadline,
  ): Promise<riak.RiakAnswer> {
    const { w, dw } = this.quorums
    return this.cluster.write(
      (timeoutMs) => riak.store(name, content, vclock, { w, dw, timeoutMs }),
      deadline,
    )
  }

  remove({ name }: Target, vclock: Buffer, deadline: Deadline): Promise<void> {
    const { w, dw } = this.quorums
    return this.cluster.write((timeoutMs) => riak.remove(name, vclock, { w, dw, timeoutMs }), deadline)
  }
}
