import { decode, encode, type PbMessage, type Schema, schema } from './protobuf.ts'

/** Tables of the messages that the simulator speaks, as in riak.proto, riak_kv.proto and riak_dt.proto of riak_pb. */
const pair = schema({ 1: 'key:bytes!', 2: 'value:bytes' })
const link = schema({ 1: 'bucket:bytes', 2: 'key:bytes', 3: 'tag:bytes' })
const modFun = schema({ 1: 'module:bytes!', 2: 'function:bytes!' })

const content = schema({
  1: 'value:bytes!',
  2: 'content_type:bytes',
  3: 'charset:bytes',
  4: 'content_encoding:bytes',
  5: 'vtag:bytes',
  6: ['links*', link],
  7: 'last_mod:uint32',
  8: 'last_mod_usecs:uint32',
  9: ['usermeta*', pair],
  10: ['indexes*', pair],
  11: 'deleted:bool',
})

const props = schema({
  1: 'n_val:uint32',
  2: 'allow_mult:bool',
  3: 'last_write_wins:bool',
  5: 'has_precommit:bool',
  7: 'has_postcommit:bool',
  8: ['chash_keyfun', modFun],
  9: ['linkfun', modFun],
  10: 'old_vclock:uint32',
  11: 'young_vclock:uint32',
  12: 'big_vclock:uint32',
  13: 'small_vclock:uint32',
  14: 'pr:uint32',
  15: 'r:uint32',
  16: 'w:uint32',
  17: 'pw:uint32',
  18: 'dw:uint32',
  19: 'rw:uint32',
  20: 'basic_quorum:bool',
  21: 'notfound_ok:bool',
  22: 'backend:bytes',
  24: 'repl:uint32',
  26: 'datatype:bytes',
  27: 'consistent:bool',
  28: 'write_once:bool',
})

const setOp = schema({ 1: 'adds:bytes*', 2: 'removes:bytes*' })
const none = schema({})

const SCHEMAS: Readonly<Record<string, readonly [code: number, Schema]>> = {
  RpbErrorResp: [0, schema({ 1: 'errmsg:bytes!', 2: 'errcode:uint32!' })],
  RpbPingReq: [1, none],
  RpbPingResp: [2, none],
  RpbGetClientIdReq: [3, none],
  RpbGetClientIdResp: [4, schema({ 1: 'client_id:bytes!' })],
  RpbSetClientIdReq: [5, schema({ 1: 'client_id:bytes!' })],
  RpbSetClientIdResp: [6, none],
  RpbGetServerInfoReq: [7, none],
  RpbGetServerInfoResp: [8, schema({ 1: 'node:bytes', 2: 'server_version:bytes' })],
  RpbGetReq: [
    9,
    schema({
      1: 'bucket:bytes!',
      2: 'key:bytes!',
      3: 'r:uint32',
      4: 'pr:uint32',
      5: 'basic_quorum:bool',
      6: 'notfound_ok:bool',
      7: 'if_modified:bytes',
      8: 'head:bool',
      9: 'deletedvclock:bool',
      10: 'timeout:uint32',
      11: 'sloppy_quorum:bool',
      12: 'n_val:uint32',
      13: 'type:bytes',
    }),
  ],
  RpbGetResp: [10, schema({ 1: ['content*', content], 2: 'vclock:bytes', 3: 'unchanged:bool' })],
  RpbPutReq: [
    11,
    schema({
      1: 'bucket:bytes!',
      2: 'key:bytes',
      3: 'vclock:bytes',
      4: ['content!', content],
      5: 'w:uint32',
      6: 'dw:uint32',
      7: 'return_body:bool',
      8: 'pw:uint32',
      9: 'if_not_modified:bool',
      10: 'if_none_match:bool',
      11: 'return_head:bool',
      12: 'timeout:uint32',
      13: 'asis:bool',
      14: 'sloppy_quorum:bool',
      15: 'n_val:uint32',
      16: 'type:bytes',
    }),
  ],
  RpbPutResp: [12, schema({ 1: ['content*', content], 2: 'vclock:bytes', 3: 'key:bytes' })],
  RpbDelReq: [
    13,
    schema({
      1: 'bucket:bytes!',
      2: 'key:bytes!',
      3: 'rw:uint32',
      4: 'vclock:bytes',
      5: 'r:uint32',
      6: 'w:uint32',
      7: 'pr:uint32',
      8: 'pw:uint32',
      9: 'dw:uint32',
      10: 'timeout:uint32',
      11: 'sloppy_quorum:bool',
      12: 'n_val:uint32',
      13: 'type:bytes',
    }),
  ],
  RpbDelResp: [14, none],
  RpbListBucketsReq: [15, schema({ 1: 'timeout:uint32', 2: 'stream:bool', 3: 'type:bytes' })],
  RpbListBucketsResp: [16, schema({ 1: 'buckets:bytes*', 2: 'done:bool' })],
  RpbListKeysReq: [17, schema({ 1: 'bucket:bytes!', 2: 'timeout:uint32', 3: 'type:bytes' })],
  RpbListKeysResp: [18, schema({ 1: 'keys:bytes*', 2: 'done:bool' })],
  RpbGetBucketReq: [19, schema({ 1: 'bucket:bytes!', 2: 'type:bytes' })],
  RpbGetBucketResp: [20, schema({ 1: ['props!', props] })],
  RpbSetBucketReq: [21, schema({ 1: 'bucket:bytes!', 2: ['props!', props], 3: 'type:bytes' })],
  RpbSetBucketResp: [22, none],
  RpbIndexReq: [
    25,
    schema({ 1: 'bucket:bytes!', 2: 'index:bytes!', 3: 'qtype:uint32!', 4: 'key:bytes', 12: 'type:bytes' }),
  ],
  RpbIndexResp: [26, schema({ 1: 'keys:bytes*', 4: 'done:bool' })],
  RpbGetBucketTypeReq: [31, schema({ 1: 'type:bytes!' })],
  DtFetchReq: [80, schema({ 1: 'bucket:bytes!', 2: 'key:bytes!', 3: 'type:bytes!' })],
  DtFetchResp: [
    81,
    schema({ 1: 'context:bytes', 2: 'type:uint32!', 3: ['value', schema({ 2: 'set_value:bytes*' })] }),
  ],
  DtUpdateReq: [
    82,
    schema({
      1: 'bucket:bytes!',
      2: 'key:bytes',
      3: 'type:bytes!',
      4: 'context:bytes',
      5: ['op!', schema({ 2: ['set_op', setOp] })],
      9: 'return_body:bool',
    }),
  ],
  RpbAuthReq: [253, schema({ 1: 'user:bytes!', 2: 'password:bytes!' })],
  DtUpdateResp: [83, schema({ 1: 'key:bytes', 2: 'context:bytes', 4: 'set_value:bytes*' })],
}

const NAMES = new Map(Object.entries(SCHEMAS).map(([name, [code]]) => [code, name]))

/** Name of a message code, `undefined` for one that the simulator does not speak. */
export function messageName(code: number): string | undefined {
  return NAMES.get(code)
}

/** @throws Error for bytes that are no such message. */
export function decodeMessage(name: string, body: Buffer): PbMessage {
  return decode(schemaOf(name)[1], body)
}

/** A whole frame: length, message code, body (riak_api_pb_frame). */
export function encodeFrame(name: string, fields: PbMessage): Buffer {
  const [code, table] = schemaOf(name)
  const body = encode(table, fields)
  const header = Buffer.alloc(5)
  header.writeUInt32BE(body.length + 1, 0)
  header.writeUInt8(code, 4)
  return Buffer.concat([header, body])
}

function schemaOf(name: string): readonly [number, Schema] {
  const entry = SCHEMAS[name]
  if (entry === undefined) throw new Error(`no message ${name}`)
  return entry
}
