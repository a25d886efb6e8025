import { createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import {
  StoreError,
  StoreRejected,
  StoreSuperseded,
  StoreTimeout,
  StoreUnavailable,
} from '../../../src/store/errors.ts'
import { verdictOf } from '../../../src/store/riak/failures.ts'
import type { Fault } from '../../support/riak-sim/faults.ts'
import { clusterWithStore, failureOf, object, storeOn } from './support.ts'

const ERRORS = [StoreTimeout, StoreUnavailable, StoreRejected, StoreSuperseded]
type ErrorClass = (typeof ERRORS)[number]

/** Every text of Riak's: the error for the caller, and whether a put that gets it may have taken effect. */
const TEXTS: readonly (readonly [text: string, error: ErrorClass, outcomeUnknown: boolean])[] = [
  ['timeout', StoreTimeout, true],
  ['overload', StoreUnavailable, true],
  ['mailbox_overload', StoreUnavailable, true],
  ['all_nodes_down', StoreUnavailable, false],
  ['{insufficient_vnodes,1,need,2}', StoreUnavailable, false],
  ['{insufficient_nodes,1,need,2}', StoreUnavailable, false],
  ['insufficient_vnodes_available', StoreUnavailable, false],
  ['{r_val_unsatisfied,2,1}', StoreUnavailable, false],
  ['{pr_val_unsatisfied,3,2}', StoreUnavailable, false],
  ['{pw_val_unsatisfied,3,2}', StoreUnavailable, true],
  ['{w_val_unsatisfied,3,2}', StoreUnavailable, true],
  ['{dw_val_unsatisfied,3,2}', StoreUnavailable, true],
  ['{node_confirms_val_unsatisfied,3,2}', StoreUnavailable, true],
  ['{n_val_violation,3}', StoreRejected, false],
  ['{r_val_violation,foo}', StoreRejected, false],
  ['{dw_val_violation,foo}', StoreRejected, false],
  ['{too_large,53477486}', StoreRejected, false],
  ['{too_many_siblings,101}', StoreUnavailable, false],
  ['match_found', StoreUnavailable, false],
  ['modified', StoreUnavailable, false],
  ['notfound', StoreUnavailable, false],
  ['no_type', StoreRejected, false],
  ["No bucket-type named 'nosuchtype'", StoreRejected, false],
  ['Invalid bucket type: <<"nosuchtype">>', StoreRejected, false],
  ['Invalid bucket properties: [{n_val,not_integer}]', StoreRejected, false],
  ['Key cannot be zero-length', StoreRejected, false],
  ['Bucket cannot be zero-length', StoreRejected, false],
  ['key_too_large', StoreRejected, false],
  ['{precommit_fail,<<"no">>}', StoreRejected, false],
  ["Permission denied: User 'u' does not have 'riak_kv.put' on default/b", StoreRejected, false],
  ['Security is enabled, please STARTTLS first', StoreRejected, false],
  ['Security not enabled; STARTTLS not allowed.', StoreRejected, false],
  ['Authentication failed', StoreRejected, false],
  ["Operation 'riak_kv:stream_list_keys' is not enabled", StoreRejected, false],
  ['Unknown message code: 200', StoreRejected, false],
  ['Message decoding error: x', StoreRejected, false],
  ['Error processing incoming message: error:badarg:[]', StoreUnavailable, true],
  ['Cannot send another request while one is in progress', StoreUnavailable, true],
  ['something that no release says', StoreUnavailable, true],
]

const CLASSES = { timeout: StoreTimeout, unavailable: StoreUnavailable, rejected: StoreRejected }

test.each(TEXTS)('Riak says %s', async (text, error, outcomeUnknown) => {
  const verdict = verdictOf(text)
  expect(CLASSES[verdict.as]).toBe(error)
  expect(verdict.outcomeUnknown).toBe(outcomeUnknown)
})

test.each(TEXTS)(
  'P4: %s comes out of get and put as what it is, and goes away with its cause',
  async (text, error, unknown) => {
    const { cluster, store } = await clusterWithStore({ nodes: 1 })
    await store.put('files', 'k', object('one', 1))
    const end = cluster.inject({
      kind: 'error',
      error: text,
      requests: ['RpbGetReq', 'RpbPutReq'],
      times: 12,
    })

    const get = await failureOf(store.get('files', 'k'))
    expect(get).toBeInstanceOf(error)
    expect(String(get)).toContain('files "k"')
    expect(String(get)).toContain(text)

    const put = await failureOf(store.put('files', 'k', object('two', 2)))
    expect(put).toBeInstanceOf(StoreError)
    expect(put).toMatchObject({ retryable: error !== StoreRejected })
    if (error === StoreUnavailable) expect(put).toMatchObject({ outcomeUnknown: unknown })

    end()
    await expect
      .poll(() => store.put('files', 'k', object('two', 2)).then(() => 'stored', String))
      .toBe('stored')
    expect((await store.get('files', 'k'))?.value.toString()).toBe('two')
  },
)

const WIRE: readonly Fault['kind'][] = [
  'drop-ack',
  'reset',
  'half-frame',
  'garbage',
  'noise',
  'foreign',
  'no-answer',
]

test.each(WIRE)('P1: a get whose answer is %s is an error and never a value', async (kind) => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 }, 'timeout=600')
  await store.put('files', 'k', object('one'))
  cluster.inject({ kind, requests: ['RpbGetReq'] })
  const failure = await failureOf(store.get('files', 'k'))
  const silent = kind === 'half-frame' || kind === 'no-answer'
  // 64 bytes of noise may begin with the length of a frame that never comes.
  if (kind === 'noise') expect(failure).toBeInstanceOf(StoreError)
  else expect(failure).toBeInstanceOf(silent ? StoreTimeout : StoreUnavailable)
  expect(failure).toMatchObject({ retryable: true })
})

test.each(WIRE)('P2: a put whose acknowledgement is %s says that it may be there', async (kind) => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 }, 'timeout=600')
  cluster.inject({ kind, requests: ['RpbPutReq'] })
  const failure = await failureOf(store.put('files', 'k', object('one')))
  expect(failure).toBeInstanceOf(StoreError)
  expect(failure).toMatchObject({ retryable: true, outcomeUnknown: true })
})

test.each(WIRE)('P4: one answer that is %s is made up for on another node', async (kind) => {
  const { cluster, store } = await clusterWithStore({ nodes: 3 }, 'timeout=2000')
  await store.put('files', 'k', object('one', 1))
  cluster.inject({ kind, requests: ['RpbGetReq'], times: 1 })
  expect((await store.get('files', 'k'))?.value.toString()).toBe('one')
  cluster.inject({ kind, requests: ['RpbPutReq'], times: 1 })
  await store.put('files', 'k', object('two', 2))
  expect((await store.get('files', 'k', { expect: { epoch: 0, version: 2 } }))?.value.toString()).toBe('two')
})

test('a node that refuses connections: nothing was sent, and the error says so', async () => {
  const { cluster, store } = await clusterWithStore({ nodes: 1 })
  await cluster.kill(1)
  // On a connection that was open before the node died nobody knows what arrived.
  await expect.poll(() => failureOf(store.ping()).then(String)).toContain('ECONNREFUSED')
  const failure = await failureOf(store.put('files', 'k', object('x')))
  expect(failure).toBeInstanceOf(StoreUnavailable)
  expect(failure).toMatchObject({ outcomeUnknown: false })
  expect(String(failure)).toMatch(/ECONNREFUSED|ECONNRESET|closed the connection/)
})

test('a host that does not exist is StoreUnavailable', async () => {
  const { cluster } = await clusterWithStore({ nodes: 1 })
  const store = await storeOn(cluster, 'timeout=2000', 'no-such-host.invalid:8087')
  expect(await failureOf(store.ping())).toBeInstanceOf(StoreUnavailable)
})

test('P6: a length without end from a server that is none does not fill the memory', async () => {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy())
    socket.on('data', () => socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 10, 0, 0])))
  })
  onTestFinished(() => new Promise((resolve) => server.close(() => resolve())))
  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
  const { cluster } = await clusterWithStore({ nodes: 1 })
  const store = await storeOn(cluster, 'timeout=2000', `127.0.0.1:${port}`)
  const failure = await failureOf(store.get('files', 'k'))
  expect(failure).toBeInstanceOf(StoreUnavailable)
  expect(String(failure)).toContain('is no answer: a frame of 4294967295 bytes')
})
