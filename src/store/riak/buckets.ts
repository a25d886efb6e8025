import { UsageError } from '../../base/errors.ts'
import type { KeySpace } from '../contract.ts'
import { type BucketName, type BucketProps, bucketProps, fetchDatatype, keepSiblings } from './client.ts'
import type { RiakCluster } from './cluster.ts'
import type { Deadline } from './deadline.ts'
import { RiakError, verdictOn } from './failures.ts'
import type { RiakNode } from './node.ts'
import type { Quorum } from './url.ts'

const SPACES: readonly KeySpace[] = ['files', 'chunks', 'dirs', 'meta']

/** `<ns>`, `<ns>.chunks`, `<ns>.dirs` and `<ns>.meta`. */
export function bucketOf(type: string, namespace: string, space: KeySpace): BucketName {
  return { type, bucket: space === 'files' ? namespace : `${namespace}.${space}` }
}

/** Why buckets with these properties cannot hold what ferryfs writes; nothing where they can. */
export function unfit(props: BucketProps, quorums: Readonly<Record<string, Quorum>>): string[] {
  const reasons: string[] = []
  if (!props.allowMult)
    reasons.push('allow_mult is false: Riak would drop one of two concurrent writes by its clock')
  if (props.lastWriteWins) reasons.push('last_write_wins is true: an old write can replace a new one')
  if (props.datatype !== undefined) reasons.push(`datatype is ${props.datatype}: it takes no plain objects`)
  if (props.writeOnce) reasons.push('write_once is true: such buckets keep no versions and no siblings')
  if (props.consistent) reasons.push('consistent is true: such buckets keep no siblings and no tombstones')
  for (const [name, quorum] of Object.entries(quorums)) {
    if (typeof quorum === 'number' && quorum > props.nVal)
      reasons.push(`${name}=${quorum} is more than n_val ${props.nVal}`)
  }
  return reasons
}

/** The lines that make a bucket type fit. `riak admin` is `riak-admin` before release 3. */
export function createTypeCommands(type: string): string[] {
  return [
    `riak admin bucket-type create ${type} '{"props":{"allow_mult":true,"last_write_wins":false,"n_val":3}}'`,
    `riak admin bucket-type activate ${type}`,
  ]
}

/**
 * Looks that all four buckets keep siblings. Untyped buckets are told to, because they do not by themselves; a type is
 * the operator's, and only looked at.
 * @throws UsageError with what to do; RiakError, TransportError
 */
export async function checkBuckets(
  cluster: RiakCluster,
  {
    type,
    namespace,
    quorums,
  }: { type: string; namespace: string; quorums: Readonly<Record<string, Quorum>> },
  deadline: Deadline,
): Promise<void> {
  await Promise.all(
    SPACES.map(async (space) => {
      const bucket = bucketOf(type, namespace, space)
      const answers =
        type === 'default'
          ? await tellEveryNode(cluster, bucket, deadline)
          : [await cluster.read(() => bucketProps(bucket), deadline)]
      for (const props of answers) judge(bucket, props, quorums)
    }),
  )
  if (type !== 'default' && (await hasDatatype(cluster, bucketOf(type, namespace, 'meta'), deadline)))
    throw unfitBucket(bucketOf(type, namespace, 'meta'), [DATATYPE])
}

/** What the nodes that answer say of an untyped bucket, told to keep siblings. One that is away hears of it when it is back. */
async function tellEveryNode(
  cluster: RiakCluster,
  bucket: BucketName,
  deadline: Deadline,
): Promise<BucketProps[]> {
  const told = await Promise.allSettled(cluster.nodes.map((node) => tell(node, bucket, deadline)))
  const failures = told.filter((one) => one.status === 'rejected').map(({ reason }): unknown => reason)
  const refused = failures.find((failure) => verdictOn(failure)?.as === 'rejected')
  if (refused !== undefined || failures.length === told.length) throw refused ?? failures[0]
  return told.filter((one) => one.status === 'fulfilled').map(({ value }) => value)
}

export const DATATYPE = 'it has a datatype: it takes no plain objects'

function unfitBucket({ bucket, type }: BucketName, reasons: readonly string[]): UsageError {
  return new UsageError(
    `Riak bucket ${bucket} of type ${type} is not fit for ferryfs: ${reasons.join('; ')}. ` +
      '`ferryfs doctor --store URL` tells what to do',
  )
}

/** @throws UsageError */
function judge(bucket: BucketName, props: BucketProps, quorums: Readonly<Record<string, Quorum>>): void {
  const reasons = unfit(props, quorums)
  if (reasons.length > 0) throw unfitBucket(bucket, reasons)
}

/**
 * What one node says of an untyped bucket once it keeps siblings. A node that was told passes it on to the others in up to some
 * seconds, and each acts by what it has heard itself: so each is told, and asked.
 */
async function tell(node: RiakNode, bucket: BucketName, deadline: Deadline): Promise<BucketProps> {
  // One that does nothing leaves time for what follows.
  using part = deadline.part((deadline.remainingMs * 2) / 3)
  const props = await node.run(bucketProps(bucket), part.signal)
  if (props.allowMult && !props.lastWriteWins) return props
  await node.run(keepSiblings(bucket), part.signal)
  return await node.run(bucketProps(bucket), part.signal)
}

/** Whether the type has a datatype, which its properties need not say. @throws TransportError */
export async function hasDatatype(
  cluster: RiakCluster,
  bucket: BucketName,
  deadline: Deadline,
): Promise<boolean> {
  try {
    await cluster.read(() => fetchDatatype({ ...bucket, key: 'ferryfs.doctor' }), deadline)
    return true
  } catch (error) {
    if (error instanceof RiakError) return false
    throw error
  }
}
