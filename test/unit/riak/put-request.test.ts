import { createRequire } from 'node:module'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodePutRequest, type PutRequest } from '../../../src/store/riak/put-request.ts'

const require = createRequire(import.meta.url)
const { KV } = require('basho-riak-client').Commands
const { getProtoFor } = require('basho-riak-client/lib/protobuf/riakprotobuf')

const text = fc.string({ unit: 'binary', maxLength: 300 })
const visible = fc.stringMatching(/^[!-~]{1,60}$/)
const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array))
const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })
const requests: fc.Arbitrary<PutRequest> = fc.record({
  name: fc.record({ type: visible, bucket: visible, key: text.filter((key) => key !== '') }),
  content: fc.record({
    // Around the lengths at which a varint grows, too.
    value: fc.oneof(
      bytes(300),
      fc.constantFrom(16_383, 16_384, 2 ** 21).map((length) => Buffer.alloc(length, 'v')),
    ),
    contentType: visible,
    usermeta: fc.array(fc.tuple(visible, text), { maxLength: 40 }),
  }),
  vclock: fc.option(
    bytes(200).filter(({ length }) => length > 0),
    { nil: undefined },
  ),
  w: uint32,
  dw: uint32,
  pw: fc.option(uint32, { nil: undefined }),
  timeoutMs: fc.integer({ min: 1, max: 600_000 }),
})

/** The message that the library's own command makes of the same. */
function asTheLibrary({ name, content, vclock, w, dw, pw, timeoutMs }: PutRequest): Buffer {
  const userMeta = content.usermeta.map(([key, value]) => ({ key, value }))
  const value = Object.assign(new KV.RiakObject(), { ...content, userMeta })
  const { type: bucketType, bucket } = name
  const key = Buffer.from(name.key)
  const primary = pw === undefined ? {} : { pw }
  const options = { bucketType, bucket, key, value, w, dw, ...primary, timeout: timeoutMs, returnHead: true }
  const command = new KV.StoreValue(vclock ? { ...options, vclock } : options, () => undefined)
  const { header, protobuf } = command.getRiakMessage()
  return Buffer.concat([header, protobuf])
}

/** Every field of a frame's message, in the order of the protocol file. */
function fieldsOf(frame: Buffer): string {
  expect(frame.readUInt32BE(0)).toBe(frame.length - 4)
  expect(frame[4]).toBe(11)
  return getProtoFor(11).decode(frame.subarray(5)).encode().toBuffer().toString('base64')
}

test('P1: a put request is the message that the client library makes, and its value is not copied', () => {
  fc.assert(
    fc.property(requests, (request) => {
      const parts = encodePutRequest(request)
      expect(parts[1]).toBe(request.content.value)
      expect(fieldsOf(Buffer.concat(parts))).toBe(fieldsOf(asTheLibrary(request)))
    }),
  )
})
