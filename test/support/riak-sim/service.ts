import { decodeQuorum, encodeProps } from './bucket-props.ts'
import { base62, contentMessage, contentOf } from './content.ts'
import type { Coordinator, DeleteOptions } from './coordinator.ts'
import { binaryTerm } from './erlang.ts'
import type { Content, RiakObject } from './object.ts'
import { field, type PbMessage } from './protobuf.ts'
import type { GetOptions, GetReply } from './requests.ts'
import { type Bucket, type BucketKey, bucketId, bucketKey } from './ring.ts'
import { fetchSet, updateSet } from './sets.ts'
import type { ClusterState } from './state.ts'
import { decodeClock, encodeClock, sameClock } from './vclock.ts'

/** What goes back: messages; an error by its text; or silence until the request's timeout, then `timeout`. */
export type Reply =
  | { readonly messages: readonly (readonly [name: string, fields: PbMessage])[] }
  | { readonly error: string }
  | { readonly silence: number }

/** DEFAULT_TIMEOUT of riak_kv_get_fsm and riak_kv_put_fsm, in milliseconds. */
const DEFAULT_TIMEOUT = 60_000

/** A read takes this long for each MiB that it returns; short of it, a `timeout` of fewer milliseconds strikes. */
const MILLISECONDS_PER_MIB = 0.5

const reply = (name: string, fields: PbMessage = {}): Reply => ({ messages: [[name, fields]] })
const error = (text: string): Reply => ({ error: text })

export interface ServiceContext {
  readonly state: ClusterState
  readonly node: string
  readonly coordinator: Coordinator
  readonly serverVersion: string
}

type Handler = (context: ServiceContext, message: PbMessage) => Reply

/** Answers one decoded request. @throws Error where the process of a real connection dies. */
export function serve(context: ServiceContext, name: string, message: PbMessage): Reply | undefined {
  return HANDLERS[name]?.(context, message)
}

/** riak_kv_pb_object.erl, riak_kv_pb_bucket.erl, riak_core_pb_bucket.erl, riak_core_pb_bucket_type.erl */
const HANDLERS: Readonly<Record<string, Handler>> = {
  RpbPingReq: () => reply('RpbPingResp'),
  RpbGetClientIdReq: () => reply('RpbGetClientIdResp', { client_id: Buffer.alloc(4) }),
  RpbSetClientIdReq: () => reply('RpbSetClientIdResp'),
  RpbGetServerInfoReq: ({ node, serverVersion }) =>
    reply('RpbGetServerInfoResp', { node: Buffer.from(node), server_version: Buffer.from(serverVersion) }),
  RpbGetReq: get,
  RpbPutReq: put,
  RpbDelReq: remove,
  RpbListBucketsReq: listBuckets,
  RpbListKeysReq: listKeys,
  RpbGetBucketReq: getBucket,
  RpbSetBucketReq: setBucket,
  RpbGetBucketTypeReq: getBucketType,
  RpbIndexReq: index,
  DtFetchReq: fetchDatatype,
  DtUpdateReq: ({ coordinator, state }, message) =>
    updateSet(coordinator, keyOf(message), message, state.clock.now()),
}

/** maybe_bucket_type/2 */
function bucketOf(message: PbMessage): Bucket {
  return {
    type: field.bytes(message, 'type')?.toString('latin1') ?? 'default',
    name: need(message, 'bucket'),
  }
}

function keyOf(message: PbMessage): BucketKey {
  return bucketKey(bucketOf(message), need(message, 'key'))
}

function need(message: PbMessage, name: string): Buffer {
  const bytes = field.bytes(message, name)
  if (bytes === undefined) throw new Error(`${name} is missing`)
  return bytes
}

/** The first clauses of process/2 for get and put. */
function zeroLength(message: PbMessage): Reply | undefined {
  for (const [name, label] of [
    ['bucket', 'Bucket'],
    ['key', 'Key'],
    ['type', 'Type'],
  ] as const) {
    if (field.bytes(message, name)?.length === 0) return error(`${label} cannot be zero-length`)
  }
  return undefined
}

/** None at all where it is 0: a get with `timeout: 0` returns the object. */
function timeoutOf(message: PbMessage): number {
  return field.uint(message, 'timeout') || DEFAULT_TIMEOUT
}

function readOptions(message: PbMessage): GetOptions {
  const basicQuorum = field.flag(message, 'basic_quorum')
  const notfoundOk = field.flag(message, 'notfound_ok')
  return {
    r: decodeQuorum(field.uint(message, 'r')),
    pr: decodeQuorum(field.uint(message, 'pr')),
    deletedVclock: field.flag(message, 'deletedvclock') ?? false,
    ...(basicQuorum !== undefined && { basicQuorum }),
    ...(notfoundOk !== undefined && { notfoundOk }),
    ...preflistOptions(message),
  }
}

function preflistOptions(message: PbMessage): { nVal?: number; sloppyQuorum?: boolean } {
  const nVal = field.uint(message, 'n_val')
  const sloppyQuorum = field.flag(message, 'sloppy_quorum')
  return { ...(nVal !== undefined && { nVal }), ...(sloppyQuorum !== undefined && { sloppyQuorum }) }
}

function get({ coordinator }: ServiceContext, message: PbMessage): Reply {
  const empty = zeroLength(message)
  if (empty !== undefined) return empty
  const found = coordinator.get(keyOf(message), readOptions(message))
  if (found.kind === 'object' && tooSlow(found.object, timeoutOf(message))) return error('timeout')
  return getReply(found, message)
}

function tooSlow(object: RiakObject, timeout: number): boolean {
  const bytes = object.contents.reduce((sum, { value }) => sum + value.length, 0)
  return (bytes / 2 ** 20) * MILLISECONDS_PER_MIB > timeout
}

function getReply(found: GetReply, message: PbMessage): Reply {
  switch (found.kind) {
    case 'never':
      return { silence: timeoutOf(message) }
    case 'error':
      return error(found.reason)
    case 'notfound':
      return reply('RpbGetResp')
    case 'deleted':
      return reply('RpbGetResp', { vclock: encodeClock(found.clock) })
    case 'object': {
      const { object } = found
      const known = field.bytes(message, 'if_modified')
      if (known !== undefined && sameClock(decodeClock(known), object.clock))
        return reply('RpbGetResp', { unchanged: true })
      return reply('RpbGetResp', objectFields(object, field.flag(message, 'head') ?? false))
    }
  }
}

function objectFields(object: RiakObject, head: boolean): PbMessage {
  const content = object.contents.map((one: Content) => contentMessage(one, head))
  return { content, vclock: encodeClock(object.clock) }
}

/** The clauses of process/2 for if_not_modified and if_none_match: a read first, and nothing that holds until the write. */
function conditionUnmet({ coordinator }: ServiceContext, message: PbMessage): Reply | undefined {
  const noneMatch = field.flag(message, 'if_none_match') ?? false
  const notModified = field.flag(message, 'if_not_modified') ?? false
  if (!noneMatch && !notModified) return undefined
  const options: GetOptions = {
    r: 'default',
    pr: 'default',
    deletedVclock: false,
    ...preflistOptions(message),
  }
  const found = coordinator.get(keyOf(message), options)
  if (found.kind === 'object') {
    if (noneMatch) return error('match_found')
    return sameClock(decodeClock(field.bytes(message, 'vclock')), found.object.clock)
      ? undefined
      : error('modified')
  }
  // "{error, _} when NoneMatch": any failure to read counts as "there is none".
  if (noneMatch) return undefined
  if (found.kind === 'notfound') return error('notfound')
  return getReply(found, message)
}

function put(context: ServiceContext, message: PbMessage): Reply {
  const unmet = zeroLength(message) ?? conditionUnmet(context, message)
  if (unmet !== undefined) return unmet
  const { coordinator, state } = context
  const given = field.bytes(message, 'key')
  const key = given ?? Buffer.from(base62(state.random.bytes(20)))
  const content = field.message(message, 'content')
  if (content === undefined) throw new Error('content is missing')
  const head = field.flag(message, 'return_head') ?? false
  const result = coordinator.put(
    {
      target: bucketKey(bucketOf(message), key),
      content: contentOf(content, state.clock.now()),
      clock: decodeClock(field.bytes(message, 'vclock')),
    },
    {
      w: decodeQuorum(field.uint(message, 'w')),
      pw: decodeQuorum(field.uint(message, 'pw')),
      dw: decodeQuorum(field.uint(message, 'dw')),
      returnBody: head || (field.flag(message, 'return_body') ?? false),
      ...preflistOptions(message),
    },
  )
  if (result.kind === 'never') return { silence: timeoutOf(message) }
  if (result.kind === 'error') return error(result.reason)
  const object = isWriteOnce(context, message) ? undefined : result.object
  return reply('RpbPutResp', {
    ...(object !== undefined && objectFields(object, head)),
    ...(given === undefined && { key }),
  })
}

/** riak_kv_pb_object hands puts of such a bucket to riak_kv_w1c_worker, which returns nothing, whatever was asked for. */
function isWriteOnce({ state, node }: ServiceContext, message: PbMessage): boolean {
  return state.propsOf(bucketOf(message), node)?.writeOnce === true
}

/** The real text for a bucket without a datatype is not on record: only that it is an error. */
function fetchDatatype({ coordinator, state, node }: ServiceContext, message: PbMessage): Reply {
  const bucket = bucketOf(message)
  const props = state.propsOf(bucket, node)
  if (props === undefined) return noBucketType(bucket.type)
  if (props.datatype === undefined) return error(`Bucket-type '${bucket.type}' has no datatype`)
  return fetchSet(coordinator, keyOf(message))
}

function remove({ coordinator }: ServiceContext, message: PbMessage): Reply {
  const quorum = (name: string) => decodeQuorum(field.uint(message, name))
  const options: DeleteOptions = {
    r: quorum('r'),
    w: quorum('w'),
    pr: quorum('pr'),
    pw: quorum('pw'),
    dw: quorum('dw'),
    rw: quorum('rw'),
  }
  const vclock = field.bytes(message, 'vclock')
  const result = coordinator.delete(keyOf(message), vclock && decodeClock(vclock), options)
  if (result.kind === 'never') return { silence: timeoutOf(message) }
  return result.kind === 'error' ? error(result.reason) : reply('RpbDelResp')
}

const noBucketType = (type: string): Reply => error(`No bucket-type named '${type}'`)

function listBuckets({ state, node }: ServiceContext, message: PbMessage): Reply {
  const type = field.bytes(message, 'type')?.toString('latin1') ?? 'default'
  if (state.types.ofType(type) === undefined) return noBucketType(type)
  const targets = state.coverage(node, ({ bucket }) => bucket.type === type)
  if (targets === undefined) return error('insufficient_vnodes_available')
  const buckets = [...new Map(targets.map(({ bucket }) => [bucketId(bucket), bucket.name])).values()]
  if (field.flag(message, 'stream') !== true) return reply('RpbListBucketsResp', { buckets })
  return {
    messages: [
      ['RpbListBucketsResp', { buckets }],
      ['RpbListBucketsResp', { done: true }],
    ],
  }
}

/** Keys to a frame: riak_kv_keys_fsm passes on what each vnode's fold buffer holds, 100 keys. */
const KEYS_PER_FRAME = 100

function listKeys({ state, node }: ServiceContext, message: PbMessage): Reply {
  const bucket = bucketOf(message)
  if (state.types.ofType(bucket.type) === undefined) return noBucketType(bucket.type)
  const targets = state.coverage(node, (target) => bucketId(target.bucket) === bucketId(bucket))
  if (targets === undefined) return error('insufficient_vnodes_available')
  const keys = targets.map(({ key }) => key)
  const frames = Array.from(
    { length: Math.ceil(keys.length / KEYS_PER_FRAME) },
    (_, frame): [string, PbMessage] => [
      'RpbListKeysResp',
      { keys: keys.slice(frame * KEYS_PER_FRAME, (frame + 1) * KEYS_PER_FRAME) },
    ],
  )
  return { messages: [...frames, ['RpbListKeysResp', { done: true }]] }
}

function getBucket({ state, node }: ServiceContext, message: PbMessage): Reply {
  const bucket = bucketOf(message)
  const props = state.propsOf(bucket, node)
  return props === undefined
    ? noBucketType(bucket.type)
    : reply('RpbGetBucketResp', { props: encodeProps(props) })
}

function setBucket({ state, node }: ServiceContext, message: PbMessage): Reply {
  const bucket = bucketOf(message)
  if (state.propsOf(bucket, node) === undefined) return noBucketType(bucket.type)
  const detail = state.setProps(bucket, field.message(message, 'props') ?? {}, node)
  return detail === undefined ? reply('RpbSetBucketResp') : error(`Invalid bucket properties: ${detail}`)
}

function getBucketType({ state }: ServiceContext, message: PbMessage): Reply {
  const type = need(message, 'type')
  const props = state.types.ofType(type.toString('latin1'))
  if (props === undefined) return error(`Invalid bucket type: ${binaryTerm(type)}`)
  return reply('RpbGetBucketResp', { props: encodeProps(props) })
}

/** Equality queries only (qtype 0); ferryfs makes none, they are on record. */
function index({ state, node, coordinator }: ServiceContext, message: PbMessage): Reply {
  const bucket = bucketOf(message)
  if (field.uint(message, 'qtype') !== 0) return error('Invalid equality query')
  const targets = state.coverage(node, (target) => bucketId(target.bucket) === bucketId(bucket))
  if (targets === undefined) return error('insufficient_vnodes_available')
  const name = need(message, 'index')
  const value = need(message, 'key')
  const keys = targets.filter((target) => {
    const found = coordinator.get(target, { r: 1, pr: 0, deletedVclock: false })
    const indexes = found.kind === 'object' ? found.object.contents.flatMap((content) => content.indexes) : []
    return indexes.some((pair) => pair.key.equals(name) && pair.value.equals(value))
  })
  return reply('RpbIndexResp', { keys: keys.map(({ key }) => key) })
}
