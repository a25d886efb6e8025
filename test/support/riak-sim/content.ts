import { createHash } from 'node:crypto'
import type { Content, Link, Pair } from './object.ts'
import { field, type PbMessage } from './protobuf.ts'

/** RpbContent to the content of an object and back (riak_pb_kv_codec.erl). */
export function contentOf(message: PbMessage, now: number): Content {
  const optional = (name: string): Buffer | undefined => field.bytes(message, name)
  const contentType = optional('content_type')
  const charset = optional('charset')
  const contentEncoding = optional('content_encoding')
  return {
    value: field.bytes(message, 'value') ?? empty,
    ...(contentType !== undefined && { contentType }),
    ...(charset !== undefined && { charset }),
    ...(contentEncoding !== undefined && { contentEncoding }),
    links: field.messages(message, 'links').map(linkOf),
    usermeta: field.messages(message, 'usermeta').map(pairOf),
    indexes: field.messages(message, 'indexes').map(pairOf),
    // "update_last_modified" of riak_kv_put_fsm gives time and tag, whatever the client sent.
    vtag: makeVtag(now),
    lastModified: now,
    deleted: field.flag(message, 'deleted') ?? false,
  }
}

const empty = Buffer.alloc(0)

function pairOf(message: PbMessage): Pair {
  return { key: field.bytes(message, 'key') ?? empty, value: field.bytes(message, 'value') ?? empty }
}

function linkOf(message: PbMessage): Link {
  const bytes = (name: string): Buffer => field.bytes(message, name) ?? empty
  return { bucket: bytes('bucket'), key: bytes('key'), tag: bytes('tag') }
}

/** With `head` the value stays away, "a rough equivalent of a REST HEAD request" (riak_kv_pb_object:process/2). */
export function contentMessage(content: Content, head: boolean): PbMessage {
  return {
    value: head ? empty : content.value,
    ...(content.contentType !== undefined && { content_type: content.contentType }),
    ...(content.charset !== undefined && { charset: content.charset }),
    ...(content.contentEncoding !== undefined && { content_encoding: content.contentEncoding }),
    vtag: Buffer.from(content.vtag),
    last_mod: Math.floor(content.lastModified / 1e6),
    last_mod_usecs: content.lastModified % 1e6,
    ...(content.links.length > 0 && { links: content.links.map((link) => ({ ...link })) }),
    ...(content.usermeta.length > 0 && { usermeta: content.usermeta.map((pair) => ({ ...pair })) }),
    ...(content.indexes.length > 0 && { indexes: content.indexes.map((pair) => ({ ...pair })) }),
    ...(content.deleted && { deleted: true }),
  }
}

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** riak_kv_util:make_vtag/1: a hash of the moment, to the base of 62. */
export function makeVtag(now: number): string {
  return base62(createHash('md5').update(String(now)).digest())
}

export function base62(bytes: Buffer): string {
  let rest = BigInt(`0x${bytes.toString('hex')}`)
  let text = ''
  while (rest > 0n) {
    text = (BASE62[Number(rest % 62n)] ?? '') + text
    rest /= 62n
  }
  return text
}
