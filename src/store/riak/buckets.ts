import { UsageError } from '../../base/errors.ts'
import type { KeySpace } from '../contract.ts'
import { type BucketName, type BucketProps, bucketProps, keepSiblings } from './client.ts'
import type { RiakCluster } from './cluster.ts'
import type { Deadline } from './deadline.ts'
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
      let props = await cluster.read(() => bucketProps(bucket), deadline)
      if (type === 'default' && (!props.allowMult || props.lastWriteWins)) {
        // Setting the same properties twice is harmless, so this may be repeated like a read.
        await cluster.read(() => keepSiblings(bucket), deadline)
        props = await cluster.read(() => bucketProps(bucket), deadline)
      }
      const reasons = unfit(props, quorums)
      if (reasons.length === 0) return
      throw new UsageError(
        `Riak bucket ${bucket.bucket} of type ${type} is not fit for ferryfs: ${reasons.join('; ')}. ` +
          '`ferryfs doctor --store URL` tells what to do',
      )
    }),
  )
}
