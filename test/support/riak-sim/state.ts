import { type BucketProps, BucketTypes, mergeRules, type TypeProps } from './bucket-props.ts'
import type { Clock } from './clock.ts'
import { Faults } from './faults.ts'
import type { ClusterView } from './get-fsm.ts'
import type { PbMessage } from './protobuf.ts'
import type { Random } from './random.ts'
import { type Bucket, type BucketKey, bucketKey, type PreflistEntry, Ring } from './ring.ts'
import { type DeleteMode, Vnode } from './vnode.ts'

/**
 * `paused`: its peers believe that it is up, yet nothing on it answers (SIGSTOP, a machine that swaps). `starting`: it answers
 * pings, but its riak_kv is not there yet: to its peers it is down, and it knows of no vnode itself.
 */
export type NodeState = 'up' | 'starting' | 'paused' | 'down'

export interface StateOptions {
  readonly nodes: readonly string[]
  readonly ringSize: number
  readonly deleteMode: DeleteMode
  readonly types: Readonly<Record<string, TypeProps>>
  readonly clock: Clock
  readonly random: Random
  /** How long the properties of a bucket take to another node, in milliseconds. */
  readonly gossipMs: readonly [least: number, most: number]
}

/** What a cluster is without its sockets: ring, vnodes, who sees whom. */
export class ClusterState {
  readonly types: BucketTypes
  readonly faults: Faults
  readonly clock: Clock
  readonly random: Random
  readonly nodes: readonly string[]
  readonly #ring: Ring
  readonly #vnodes = new Map<string, Vnode>()
  readonly #states: Map<string, NodeState>
  readonly #deleteMode: DeleteMode
  readonly #gossipMs: StateOptions['gossipMs']
  /** Node → number of its side; nodes of different sides do not see each other. */
  #sides = new Map<string, number>()

  constructor(options: StateOptions) {
    this.nodes = options.nodes
    this.clock = options.clock
    this.random = options.random
    this.#deleteMode = options.deleteMode
    this.#gossipMs = options.gossipMs
    this.types = new BucketTypes(options.types)
    this.faults = new Faults(options.random)
    this.#ring = new Ring(options.ringSize, options.nodes)
    this.#states = new Map(options.nodes.map((node) => [node, 'up']))
  }

  /** Partitions that the node owns, as far as no two of them are among the `n` that hold one key. */
  scattered(node: string, n: number): number[] {
    const { owners } = this.#ring
    return owners.flatMap((owner, partition) => {
      const others = Array.from(
        { length: n - 1 },
        (_, index) => owners[(partition + 1 + index) % owners.length],
      )
      return owner === node && !others.includes(node) ? [partition] : []
    })
  }

  stateOf(node: string): NodeState {
    return this.#states.get(node) ?? 'down'
  }

  setState(node: string, state: NodeState): void {
    this.#states.set(node, state)
  }

  /** Splits the network: nodes see only those of their own group; a node in no group is alone. */
  split(groups: readonly (readonly string[])[]): void {
    this.#sides = new Map(this.nodes.map((node, index) => [node, -1 - index]))
    for (const [side, group] of groups.entries()) for (const node of group) this.#sides.set(node, side)
  }

  join(): void {
    this.#sides.clear()
  }

  #sees(from: string, to: string): boolean {
    const states = [this.stateOf(from), this.stateOf(to)]
    return (
      states.every((one) => one === 'up' || one === 'paused') && this.#sides.get(from) === this.#sides.get(to)
    )
  }

  /** Properties as the node has heard of them. */
  propsOf(bucket: Bucket, node: string): BucketProps | undefined {
    return this.types.ofBucket(bucket, node)
  }

  /** Tells one node; the others hear of it in their own time, a node that is away after it is back. */
  setProps(bucket: Bucket, message: PbMessage, node: string): string | undefined {
    const told = this.types.set(bucket, message, node)
    if (typeof told === 'string') return told
    const [least, most] = this.#gossipMs
    const pass = (other: string): void => {
      this.clock.after(least + this.random.below(most - least + 1), () => {
        if (this.#sees(node, other)) told(other)
        else pass(other)
      })
    }
    for (const other of this.nodes) if (other !== node) pass(other)
    return undefined
  }

  viewFrom(from: string): ClusterView {
    return {
      preflist: (target, n, sloppy) => {
        const entries = this.#ring.activePreflist(target, n, (node) => this.#sees(from, node))
        return sloppy ? entries : entries.filter(({ primary }) => primary)
      },
      vnode: (entry) => this.#vnode(entry),
      rules: (node, { bucket }) => {
        const props = this.propsOf(bucket, node)
        if (props === undefined) throw new Error('no_type')
        return mergeRules(props)
      },
      answers: (node) => this.stateOf(node) === 'up',
      shuffle: (items) => this.random.shuffle(items),
    }
  }

  #vnode({ partition, node }: PreflistEntry): Vnode {
    const name = `${partition} ${node}`
    const known = this.#vnodes.get(name)
    if (known !== undefined) return known
    const vnode = new Vnode(partition, node, {
      clock: this.clock,
      deleteMode: this.#deleteMode,
      losesWrite: (id) => this.faults.hitsVnode('lose-write', { node, partition }, id),
      readValue: (id, value) => {
        if (value.length === 0 || !this.faults.hitsVnode('corrupt', { node, partition }, id)) return value
        const harmed = Buffer.from(value)
        const at = this.random.below(harmed.length)
        harmed.writeUInt8(harmed.readUInt8(at) ^ (1 << this.random.below(8)), at)
        return harmed
      },
    })
    this.#vnodes.set(name, vnode)
    return vnode
  }

  /**
   * Hinted handoff: what fallback vnodes hold goes to the owners that they can see, and is then dropped (riak_core_vnode
   * does so some time after an owner is back). Returns the number of objects handed over.
   */
  handoff(): number {
    let moved = 0
    for (const vnode of this.#vnodes.values()) {
      const owner = this.#ring.owner(vnode.partition)
      if (owner === vnode.node || this.stateOf(vnode.node) !== 'up') continue
      if (this.stateOf(owner) !== 'up' || !this.#sees(vnode.node, owner)) continue
      for (const id of vnode.ids) {
        const object = vnode.get(id)
        const props = this.propsOf(parseId(id).bucket, owner)
        if (object === undefined || props === undefined) continue
        this.#vnode({ partition: vnode.partition, node: owner, primary: true }).replicate(
          id,
          object,
          mergeRules(props),
        )
        vnode.drop(id)
        moved++
      }
    }
    return moved
  }

  /**
   * Every key accepted that an owner in sight holds, tombstones among them (the backend's fold does not look into the
   * objects); `undefined` if a part of the ring has no owner up. Riak's coverage query asks one owner in three, so that
   * it may miss more than this.
   */
  coverage(from: string, accept: (target: BucketKey) => boolean): BucketKey[] | undefined {
    const found = new Map<string, BucketKey>()
    const covered = this.#ring.owners.map((owner) => this.stateOf(owner) === 'up' && this.#sees(from, owner))
    // Any n_val (3) partitions in a row hold everything in between: one owner up among them is enough.
    const size = covered.length
    if (covered.some((_, index) => ![0, 1, 2].some((offset) => covered[(index + offset) % size])))
      return undefined
    for (const vnode of this.#vnodes.values()) {
      const owner = this.#ring.owner(vnode.partition)
      if (owner !== vnode.node || this.stateOf(owner) !== 'up' || !this.#sees(from, owner)) continue
      for (const id of vnode.ids) {
        const target = parseId(id)
        if (accept(target)) found.set(id, target)
      }
    }
    return [...found.values()]
  }

  /** Every key that some vnode holds, tombstones among them, for tests. */
  allKeys(): BucketKey[] {
    const ids = new Set([...this.#vnodes.values()].flatMap((vnode) => vnode.ids))
    return [...ids].map(parseId)
  }

  /** Damages so many replicas of a key; all of them, as no quorum would find out, if not told. */
  damage(target: BucketKey, copies = Number.POSITIVE_INFINITY): void {
    const holders = [...this.#vnodes.values()].filter((vnode) => vnode.get(target.id) !== undefined)
    for (const vnode of holders.slice(0, copies)) vnode.damage(target.id)
  }

  /** What each replica of a key holds, for tests: `node/partition` → values, a tombstone as `undefined`. */
  replicas(target: BucketKey): Map<string, (Buffer | undefined)[]> {
    const result = new Map<string, (Buffer | undefined)[]>()
    for (const vnode of this.#vnodes.values()) {
      const object = vnode.get(target.id)
      if (object === undefined) continue
      const values = object.contents.map(({ deleted, value }) => (deleted ? undefined : value))
      result.set(`${vnode.node}/${vnode.partition}`, values)
    }
    return result
  }
}

/** The other way round of `bucketKey`. */
function parseId(id: string): BucketKey {
  const slash = id.indexOf('/')
  const zero = id.indexOf('\0')
  const bucket = { type: id.slice(0, slash), name: Buffer.from(id.slice(slash + 1, zero), 'latin1') }
  return bucketKey(bucket, Buffer.from(id.slice(zero + 1), 'latin1'))
}
