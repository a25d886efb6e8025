import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type Cluster, startCluster } from '../../support/riak-sim/cluster.ts'
import { encodeFrame } from '../../support/riak-sim/messages.ts'
import type { PbMessage, PbValue } from '../../support/riak-sim/protobuf.ts'
import { type RawAnswer, RawClient } from '../../support/riak-sim/raw-client.ts'

/**
 * The simulator answers what a real cluster answered, message by message (recordings/README.md tells where
 * the recordings are from). Opaque are vclocks, vtags, times, contexts and generated keys: a recorded vclock stands for
 * the one that the simulator gave at the same place.
 */
interface Line {
  readonly scenario: string
  readonly request?: string
  readonly fields?: Record<string, unknown>
  readonly response?: string
  readonly answer?: unknown
  readonly note?: string
  readonly transport?: string
}

function recording(name: string): Line[] {
  const url = new URL(`../../support/riak-sim/recordings/${name}.jsonl`, import.meta.url)
  return readFileSync(url, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line): Line => JSON.parse(line))
}

type Json = Record<string, unknown>

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const OPAQUE = new Set(['vtag', 'last_mod', 'last_mod_usecs', 'vclock', 'context'])

class Replay {
  readonly #vclocks = new Map<string, Buffer>()

  /** Recorded fields as a message; recorded vclocks as the simulator's own. */
  toMessage(fields: Json): PbMessage {
    return Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, this.#toValue(value)]))
  }

  #toValue(value: unknown): PbValue {
    if (typeof value === 'number' || typeof value === 'boolean') return value
    if (typeof value === 'string') return Buffer.from(value)
    if (Array.isArray(value)) return value.map((one) => this.#toValue(one))
    if (!isJson(value)) throw new Error(`unexpected ${JSON.stringify(value)}`)
    const { base64, bytes } = value
    if (typeof base64 === 'string') return this.#vclocks.get(base64) ?? Buffer.from(base64, 'base64')
    if (typeof bytes === 'number') return Buffer.alloc(bytes, 'x')
    return this.toMessage(value)
  }

  remember(recorded: unknown, answer: PbMessage): void {
    const vclock = isJson(recorded) && isJson(recorded.vclock) ? recorded.vclock.base64 : undefined
    if (typeof vclock === 'string' && Buffer.isBuffer(answer.vclock)) this.#vclocks.set(vclock, answer.vclock)
  }
}

/** Recorded and simulated answers in one form: opaque fields only as being there, long values only by length. */
function comparable(value: unknown, name = ''): unknown {
  if (OPAQUE.has(name)) return 'there'
  if (Buffer.isBuffer(value)) {
    if (value.length > 1000) return { bytes: value.length }
    const text = value.toString()
    return Buffer.from(text).equals(value) && /^[\x20-\x7e]*$/.test(text)
      ? text
      : { base64: value.toString('base64') }
  }
  if (Array.isArray(value)) return value.map((one) => comparable(one))
  if (!isJson(value) || 'base64' in value || 'bytes' in value) return value
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, comparable(one, key)]))
}

/** Lists that Riak gives in no order; frames of a list; what is a random or an internal form. */
function settle(line: Line, fields: unknown): unknown {
  if (line.note === 'siblings held' && typeof fields === 'number') return { siblings: fields }
  const plain = comparable(fields)
  if (!isJson(plain)) return plain
  if (Array.isArray(plain.keys)) return { ...plain, keys: [...plain.keys].sort() }
  if (line.note?.startsWith('no key') === true) return { ...plain, key: 'generated' }
  if (line.note === 'plain get of a set' && Array.isArray(plain.content)) {
    return { ...plain, content: plain.content.map((one) => ({ ...one, value: 'riak_dt' })) }
  }
  return plain
}

async function play(cluster: Cluster, lines: readonly Line[], special: Special = {}): Promise<void> {
  const replay = new Replay()
  const { port } = cluster.nodes[0] ?? { port: 0 }
  let client = await RawClient.connect(port)
  try {
    for (const [number, line] of lines.entries()) {
      const where = `line ${number + 1}: ${line.scenario}, ${line.request ?? ''} ${line.note ?? ''}`
      await special.before?.(line, cluster, client)
      let answer: RawAnswer | undefined
      if (line.request !== undefined && line.fields !== undefined) {
        answer = await client.request(line.request, replay.toMessage(line.fields))
      } else {
        answer = await special.instead?.(line, client)
      }
      if (line.transport !== undefined) {
        if (line.transport === 'no answer in 2 s') expect(answer, where).toBeUndefined()
        else expect(answer, where).toEqual({ closed: true })
        client = await RawClient.connect(port)
        continue
      }
      if (answer === undefined || 'closed' in answer) throw new Error(`${where}: no answer`)
      if (line.response !== undefined) expect(answer.name, where).toBe(line.response)
      expect(settle(line, answer.fields), where).toEqual(settle(line, line.answer))
      replay.remember(line.answer, answer.fields)
      if (line.note === 'first frame') {
        expect(await client.answer(), where).toEqual({ name: line.response, fields: { done: true } })
      }
    }
  } finally {
    await client[Symbol.asyncDispose]()
  }
}

interface Special {
  readonly before?: (line: Line, cluster: Cluster, client: RawClient) => Promise<void> | void
  /** Lines whose request is told in words. */
  readonly instead?: (line: Line, client: RawClient) => Promise<RawAnswer | undefined>
}

const sibling = (client: RawClient): Promise<RawAnswer> =>
  client.request('RpbPutReq', {
    type: Buffer.from('riakfuse'),
    bucket: Buffer.from('many'),
    key: Buffer.from('k'),
    content: { value: Buffer.from('x') },
  })

const oneNode: Special = {
  async before(line, cluster, client) {
    if (line.note === 'after 4.5 s') cluster.advance(4500)
    if (line.request === 'RpbIndexReq') {
      for (const key of ['k1', 'k2', 'k3']) {
        await client.request('RpbPutReq', {
          bucket: Buffer.from(String(line.fields?.bucket)),
          key: Buffer.from(key),
          content: {
            value: Buffer.from('x'),
            indexes: [{ key: Buffer.from('p_bin'), value: Buffer.from('q') }],
          },
        })
      }
    }
  },
  async instead(line, client) {
    switch (line.note) {
      case 'put number 101':
        for (let count = 0; count < 100; count++) await sibling(client)
        return sibling(client)
      case 'siblings held': {
        const fields = { type: Buffer.from('riakfuse'), bucket: Buffer.from('many'), key: Buffer.from('k') }
        const answer = await client.request('RpbGetReq', fields)
        if (!('fields' in answer) || !Array.isArray(answer.fields.content)) throw new Error('no siblings')
        return { name: 'number', fields: { siblings: answer.fields.content.length } }
      }
      case 'unknown message code 200':
        client.send(Buffer.from([0, 0, 0, 1, 200]))
        return client.answer()
      case 'get with an undecodable body':
        client.send(Buffer.from([0, 0, 0, 4, 9, 255, 255, 255]))
        return client.answer()
      case 'length of zero':
        client.send(Buffer.from([0, 0, 0, 0]))
        return client.answer()
      case 'half a frame': {
        client.send(encodeFrame('RpbPingReq', {}).subarray(0, 3))
        // Nothing may come before what completes the frame.
        client.send(encodeFrame('RpbPingReq', {}).subarray(3))
        const answer = await client.answer()
        return 'name' in answer && answer.name === 'RpbPingResp' ? undefined : answer
      }
      default:
        throw new Error(`what to do for ${JSON.stringify(line)}?`)
    }
  },
}

test('riak-sim answers every recorded request of a single node as the real one did', async () => {
  await using cluster = await startCluster({ nodes: 1, clock: 'manual' })
  await play(cluster, recording('one-node'), oneNode)
})

test.each([
  ['three-nodes-all-up', []],
  ['three-nodes-one-down', [2]],
  ['three-nodes-two-down', [2, 3]],
])('riak-sim answers as the real cluster did: %s', async (name, stopped) => {
  await using cluster = await startCluster({ nodes: 3, clock: 'manual' })
  for (const node of stopped) await cluster.stop(node)
  await play(cluster, recording(name))
})
