import type { ContentToStore, ObjectName } from './client.ts'

/**
 * RpbPutReq of riak_kv.proto, written by hand. The client library's encoder copies the value four times and checks every
 * field on its way: measured, that is 4.5 of the 5.6 ms of processor that it takes to send a MiB, and 60 µs of a small
 * put. Here the value goes to the socket as it is. The library's own protocol buffers have to read it as the message that
 * its StoreValue would have made (test/unit/riak/put-request.test.ts).
 */
export interface PutRequest {
  readonly name: ObjectName
  readonly content: ContentToStore
  readonly vclock: Buffer | undefined
  /** Numbers, or the codes of `one`, `quorum` and `all`. */
  readonly w: number
  readonly dw: number
  /** Owners of the key, not stand-ins, that must have received it. */
  readonly pw: number | undefined
  readonly timeoutMs: number
}

/** RpbPutReq in riak_pb_messages.csv */
const PUT_REQUEST = 11

// Fields of RpbPutReq, RpbContent and RpbPair.
const PUT = {
  bucket: 1,
  key: 2,
  vclock: 3,
  content: 4,
  w: 5,
  dw: 6,
  returnBody: 7,
  pw: 8,
  ifNotModified: 9,
  ifNoneMatch: 10,
  returnHead: 11,
  timeout: 12,
  type: 16,
} as const
const CONTENT = { value: 1, contentType: 2, usermeta: 9 } as const
const PAIR = { key: 1, value: 2 } as const

// Fields of one byte: return_body, if_not_modified, if_none_match, return_head.
const FLAGS = 4

// Wire types.
const VARINT = 0
const DELIMITED = 2

const varintLength = (value: number): number =>
  value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5
const delimitedLength = (field: number, bytes: number): number =>
  varintLength(field << 3) + varintLength(bytes) + bytes

class Output {
  readonly buffer: Buffer
  #at = 0

  constructor(length: number) {
    this.buffer = Buffer.allocUnsafe(length)
  }

  header(length: number, code: number): void {
    this.#at = this.buffer.writeUInt32BE(length, this.#at)
    this.buffer[this.#at++] = code
  }

  varint(value: number): void {
    let rest = value
    while (rest >= 0x80) {
      this.buffer[this.#at++] = (rest & 0x7f) | 0x80
      rest = Math.floor(rest / 128)
    }
    this.buffer[this.#at++] = rest
  }

  number(field: number, value: number): void {
    this.varint((field << 3) | VARINT)
    this.varint(value)
  }

  /** Begins a field of so many bytes, which follow. */
  begin(field: number, length: number): void {
    this.varint((field << 3) | DELIMITED)
    this.varint(length)
  }

  bytes(field: number, value: Buffer): void {
    this.begin(field, value.length)
    this.#at += value.copy(this.buffer, this.#at)
  }

  text(field: number, value: string, length: number): void {
    this.begin(field, length)
    this.#at += this.buffer.write(value, this.#at)
  }
}

/** Frame of the request: what comes before the value, the value itself, what comes after. */
export function encodePutRequest(request: PutRequest): [before: Buffer, value: Buffer, after: Buffer] {
  const { name, content, vclock, w, dw, pw, timeoutMs } = request
  const { value, contentType } = content
  const pairs = content.usermeta.map(([key, text]) => {
    const [keyLength, textLength] = [Buffer.byteLength(key), Buffer.byteLength(text)]
    const length = delimitedLength(PAIR.key, keyLength) + delimitedLength(PAIR.value, textLength)
    return { key, text, keyLength, textLength, length }
  })
  const [bucketLength, keyLength, typeLength, contentTypeLength] = [
    Buffer.byteLength(name.bucket),
    Buffer.byteLength(name.key),
    Buffer.byteLength(name.type),
    Buffer.byteLength(contentType),
  ]
  let metaLength = delimitedLength(CONTENT.contentType, contentTypeLength)
  for (const { length } of pairs) metaLength += delimitedLength(CONTENT.usermeta, length)
  const contentLength = delimitedLength(CONTENT.value, value.length) + metaLength
  const beforeContent =
    delimitedLength(PUT.bucket, bucketLength) +
    delimitedLength(PUT.key, keyLength) +
    (vclock === undefined ? 0 : delimitedLength(PUT.vclock, vclock.length))
  // Fields of one varint each; the first eleven have a tag of one byte, that of the type takes two.
  const afterContent =
    [w, dw, pw, timeoutMs]
      .filter((number) => number !== undefined)
      .reduce((sum, number) => sum + 1 + varintLength(number), 0) +
    FLAGS * 2 +
    delimitedLength(PUT.type, typeLength)
  const body = beforeContent + delimitedLength(PUT.content, contentLength) + afterContent

  const tags = 1 + varintLength(contentLength) + 1 + varintLength(value.length)
  const before = new Output(5 + beforeContent + tags)
  before.header(body + 1, PUT_REQUEST)
  before.text(PUT.bucket, name.bucket, bucketLength)
  before.text(PUT.key, name.key, keyLength)
  if (vclock !== undefined) before.bytes(PUT.vclock, vclock)
  before.begin(PUT.content, contentLength)
  before.begin(CONTENT.value, value.length)

  const after = new Output(metaLength + afterContent)
  after.text(CONTENT.contentType, contentType, contentTypeLength)
  for (const { key, text, keyLength, textLength, length } of pairs) {
    after.begin(CONTENT.usermeta, length)
    after.text(PAIR.key, key, keyLength)
    after.text(PAIR.value, text, textLength)
  }
  after.number(PUT.w, w)
  after.number(PUT.dw, dw)
  after.number(PUT.returnBody, 0)
  if (pw !== undefined) after.number(PUT.pw, pw)
  after.number(PUT.ifNotModified, 0)
  after.number(PUT.ifNoneMatch, 0)
  after.number(PUT.returnHead, 1)
  after.number(PUT.timeout, timeoutMs)
  after.text(PUT.type, name.type, typeLength)
  return [before.buffer, value, after.buffer]
}
