import { makeVtag } from './content.ts'
import type { Coordinator } from './coordinator.ts'
import { binaryTerm } from './erlang.ts'
import { field, type PbMessage } from './protobuf.ts'
import type { BucketKey } from './ring.ts'
import type { Reply } from './service.ts'
import { freshClock, type VClock } from './vclock.ts'

/**
 * Sets (riak_kv_pb_crdt.erl), as far as the recordings show them: one coordinator at a time, no concurrent adds. ferryfs
 * uses none, because an update costs as much as the set is long.
 */
const SET = 2

interface Held {
  readonly elements: readonly Buffer[]
  readonly clock: VClock
}

function read(coordinator: Coordinator, target: BucketKey): Held | { readonly error: string } | undefined {
  const found = coordinator.get(target, { r: 'default', pr: 'default', deletedVclock: false })
  if (found.kind === 'error') return { error: found.reason }
  if (found.kind !== 'object') return undefined
  const texts: unknown = JSON.parse(found.object.contents[0]?.value.subarray(1).toString() ?? '[]')
  const elements = Array.isArray(texts) ? texts.map((text) => Buffer.from(String(text), 'latin1')) : []
  return { elements, clock: found.object.clock }
}

/** Opaque to the client; here the elements again. */
const contextOf = ({ elements }: Held): Buffer => Buffer.from(`g${elements.length}`)

export function fetchSet(coordinator: Coordinator, target: BucketKey): Reply {
  const held = read(coordinator, target)
  if (held === undefined) return { messages: [['DtFetchResp', { type: SET }]] }
  if ('error' in held) return held
  return {
    messages: [['DtFetchResp', { context: contextOf(held), type: SET, value: { set_value: held.elements } }]],
  }
}

export function updateSet(
  coordinator: Coordinator,
  target: BucketKey,
  message: PbMessage,
  now: number,
): Reply {
  const held = read(coordinator, target) ?? { elements: [], clock: freshClock }
  if ('error' in held) return held
  const operation = field.message(field.message(message, 'op') ?? {}, 'set_op') ?? {}
  const removes = field.list(operation, 'removes')
  const missing = removes.find((one) => !held.elements.some((element) => element.equals(one)))
  // riak_dt_orswot:update/3, without a context: only what is there can be removed.
  if (missing !== undefined) return { error: `{precondition,{not_present,${binaryTerm(missing)}}}` }
  const kept = held.elements.filter((element) => !removes.some((one) => one.equals(element)))
  const added = field.list(operation, 'adds').filter((one) => !kept.some((element) => element.equals(one)))
  const elements = [...kept, ...added].sort(Buffer.compare)
  // The first byte is the magic number of riak_kv_crdt:to_binary/1; the rest is the simulator's own.
  const value = Buffer.from(`E${JSON.stringify(elements.map((element) => element.toString('latin1')))}`)
  const content = {
    value,
    contentType: Buffer.from('application/riak_set'),
    links: [],
    usermeta: [],
    indexes: [],
    vtag: makeVtag(now),
    lastModified: now,
    deleted: false,
  }
  const options = { w: 'default', pw: 'default', dw: 'default', returnBody: false } as const
  const result = coordinator.put({ target, content, clock: held.clock }, options)
  if (result.kind === 'error') return { error: result.reason }
  if (field.flag(message, 'return_body') !== true) return { messages: [['DtUpdateResp', {}]] }
  return {
    messages: [
      ['DtUpdateResp', { context: contextOf({ elements, clock: held.clock }), set_value: elements }],
    ],
  }
}
