import type { MergeRules } from './object.ts'
import { field, type PbMessage } from './protobuf.ts'
import { type Bucket, bucketId } from './ring.ts'

/** A quorum as a property or an option gives it: a number, or one of the names. */
export type Quorum = number | 'one' | 'quorum' | 'all' | 'default'

/** RIAKPB_RW_ONE and its sisters of riak_pb_kv.hrl, numbers at the end of 32 bits. */
const QUORUM_CODES: ReadonlyMap<number, Quorum> = new Map<number, Quorum>([
  [4294967294, 'one'],
  [4294967293, 'quorum'],
  [4294967292, 'all'],
  [4294967291, 'default'],
])

/** riak_pb_kv_codec:decode_quorum/1 */
export function decodeQuorum(value: number | undefined): Quorum {
  return value === undefined ? 'default' : (QUORUM_CODES.get(value) ?? value)
}

function encodeQuorum(quorum: Quorum): number {
  if (typeof quorum === 'number') return quorum
  for (const [code, name] of QUORUM_CODES) if (name === quorum) return code
  throw new Error(`no quorum ${quorum}`)
}

export interface BucketProps {
  readonly nVal: number
  readonly allowMult: boolean
  readonly lastWriteWins: boolean
  readonly dvv: boolean
  readonly r: Quorum
  readonly w: Quorum
  readonly pr: Quorum
  readonly pw: Quorum
  readonly dw: Quorum
  readonly rw: Quorum
  readonly basicQuorum: boolean
  readonly notfoundOk: boolean
  readonly datatype?: string
  readonly backend?: string
  /** Puts go to the vnodes at once, without a coordinator, and are acknowledged without a head (riak_kv_w1c_worker). */
  readonly writeOnce?: boolean
  /** The properties that clients are told lack `datatype` and `write_once`: all they have then is how it behaves. */
  readonly silent?: boolean
  /** What only untyped buckets show: `repl` and `write_once`. */
  readonly untyped: boolean
}

/** riak_core_bucket_type:defaults/0 and defaults/1 */
function defaults(untyped: boolean): BucketProps {
  return {
    nVal: 3,
    allowMult: !untyped,
    lastWriteWins: false,
    dvv: !untyped,
    r: 'quorum',
    w: 'quorum',
    pr: 0,
    pw: 0,
    dw: 'quorum',
    rw: 'quorum',
    basicQuorum: false,
    notfoundOk: true,
    untyped,
  }
}

export type TypeProps = Partial<Omit<BucketProps, 'untyped'>>

export function mergeRules(props: BucketProps): MergeRules {
  return { allowMult: props.allowMult, lastWriteWins: props.lastWriteWins, dvv: props.dvv }
}

/** riak_kv_util:expand_rw_value/4 and normalize_rw_value/2 */
export function expandQuorum(
  name: 'r' | 'w' | 'pr' | 'pw' | 'dw' | 'rw',
  option: Quorum,
  props: BucketProps,
  n: number,
): number {
  const value = option === 'default' ? props[name] : option
  if (typeof value === 'number') return value
  return value === 'one' ? 1 : value === 'all' ? n : Math.floor(n / 2) + 1
}

/** What one node believes of a bucket, and which of two beliefs is the newer one. */
interface Belief {
  readonly props: BucketProps
  readonly stamp: number
}

/**
 * The bucket types of a cluster, which every node knows (cluster metadata), and what single buckets say otherwise: that is part
 * of the ring, which the node that was told passes on to the others in its own time (riak_core_gossip).
 */
export class BucketTypes {
  readonly #types: ReadonlyMap<string, BucketProps>
  /** Node → bucket → what it has heard. */
  readonly #heard = new Map<string, Map<string, Belief>>()
  #stamp = 0

  constructor(types: Readonly<Record<string, TypeProps>>) {
    this.#types = new Map([
      ['default', defaults(true)],
      ...Object.entries(types).map(([name, props]): [string, BucketProps] => [
        name,
        { ...defaults(false), ...props },
      ]),
    ])
  }

  /** `undefined` for a bucket type that does not exist or is not active. */
  ofType(type: string): BucketProps | undefined {
    return this.#types.get(type)
  }

  /** As the node has heard. */
  ofBucket(bucket: Bucket, node: string): BucketProps | undefined {
    return this.#heard.get(node)?.get(bucketId(bucket))?.props ?? this.#types.get(bucket.type)
  }

  /**
   * Takes an RpbBucketProps at one node; a string is the detail of `Invalid bucket properties: …` (riak_kv_bucket:validate/4),
   * a function tells another node.
   */
  set(bucket: Bucket, message: PbMessage, node: string): string | ((other: string) => void) {
    const old = this.ofBucket(bucket, node)
    if (old === undefined) throw new Error('no_type')
    const nVal = field.uint(message, 'n_val') ?? old.nVal
    // validate_n_val/2 of riak_kv_bucket.erl wants an integer above 0 and calls 0 "not_integer".
    if (nVal === 0) return '[{n_val,not_integer}]'
    const quorum = (name: 'r' | 'w' | 'pr' | 'pw' | 'dw' | 'rw'): Quorum => {
      const value = field.uint(message, name)
      return value === undefined ? old[name] : decodeQuorum(value)
    }
    const props = {
      ...old,
      nVal,
      allowMult: field.flag(message, 'allow_mult') ?? old.allowMult,
      lastWriteWins: field.flag(message, 'last_write_wins') ?? old.lastWriteWins,
      r: quorum('r'),
      w: quorum('w'),
      pr: quorum('pr'),
      pw: quorum('pw'),
      dw: quorum('dw'),
      rw: quorum('rw'),
      basicQuorum: field.flag(message, 'basic_quorum') ?? old.basicQuorum,
      notfoundOk: field.flag(message, 'notfound_ok') ?? old.notfoundOk,
    }
    const belief = { props, stamp: ++this.#stamp }
    this.#hear(node, bucket, belief)
    return (other) => this.#hear(other, bucket, belief)
  }

  #hear(node: string, bucket: Bucket, belief: Belief): void {
    const beliefs = this.#heard.get(node) ?? new Map<string, Belief>()
    this.#heard.set(node, beliefs)
    if ((beliefs.get(bucketId(bucket))?.stamp ?? 0) < belief.stamp) beliefs.set(bucketId(bucket), belief)
  }
}

/** riak_pb_codec:encode_bucket_props/1 */
export function encodeProps(props: BucketProps): PbMessage {
  const modFun = (module: string, name: string): PbMessage => {
    return { module: Buffer.from(module), function: Buffer.from(name) }
  }
  return {
    n_val: props.nVal,
    allow_mult: props.allowMult,
    last_write_wins: props.lastWriteWins,
    has_precommit: true,
    has_postcommit: true,
    chash_keyfun: modFun('riak_core_util', 'chash_std_keyfun'),
    linkfun: modFun('riak_kv_wm_link_walker', 'mapreduce_linkfun'),
    old_vclock: 86_400,
    young_vclock: 20,
    big_vclock: 50,
    small_vclock: 50,
    pr: encodeQuorum(props.pr),
    r: encodeQuorum(props.r),
    w: encodeQuorum(props.w),
    pw: encodeQuorum(props.pw),
    dw: encodeQuorum(props.dw),
    rw: encodeQuorum(props.rw),
    basic_quorum: props.basicQuorum,
    notfound_ok: props.notfoundOk,
    ...(props.datatype !== undefined && !props.silent && { datatype: Buffer.from(props.datatype) }),
    ...(props.backend !== undefined && { backend: Buffer.from(props.backend) }),
    // riak_repl's own property and write_once are set in the defaults of untyped buckets only.
    ...(props.untyped && { repl: 3, write_once: false }),
    ...(props.writeOnce === true && !props.silent && { write_once: true }),
  }
}
