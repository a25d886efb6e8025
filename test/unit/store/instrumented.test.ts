import { Counter, Histogram, Registry } from 'prom-client'
import { expect, test } from 'vitest'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import { StoreCorrupt, StoreRejected, StoreTimeout, StoreUnavailable } from '../../../src/store/errors.ts'
import { InstrumentedStore } from '../../../src/store/instrumented.ts'
import { ScriptedStore } from '../../support/scripted-store.ts'

test('every request is counted with its outcome, timed, and its bytes are summed', async () => {
  const registers = [new Registry()]
  const operations = new Counter({
    name: 'operations',
    help: 'h',
    labelNames: ['operation', 'space', 'outcome'],
    registers,
  })
  const seconds = new Histogram({ name: 'seconds', help: 'h', labelNames: ['operation', 'space'], registers })
  const bytes = new Counter({ name: 'bytes', help: 'h', labelNames: ['direction'], registers })
  const scripted = new ScriptedStore()
  const store = new InstrumentedStore(scripted, { operations, seconds, bytes })
  const object = (version: number): ObjectToStore => ({
    value: Buffer.alloc(100),
    version: { epoch: 0, version },
    contentType: 'text/plain',
    metadata: {},
  })

  await store.put('files', 'a', object(2))
  await store.get('files', 'a')
  await store.get('files', 'b')
  await expect(store.put('files', 'a', object(1))).rejects.toThrow('newer')
  for await (const key of store.keys('files')) expect(key).toBe('a')
  await store.delete('files', 'a', { epoch: 0, version: 2 })
  await store.ping()
  for (const error of [
    new StoreUnavailable('u'),
    new StoreTimeout('t'),
    new StoreCorrupt('c'),
    new StoreRejected('r'),
  ]) {
    scripted.script = async () => {
      throw error
    }
    await expect(store.get('chunks', 'a')).rejects.toBe(error)
  }

  const counted = (await operations.get()).values.map(
    ({ labels, value }) => `${labels.operation} ${labels.space} ${labels.outcome} ${value}`,
  )
  expect(counted.sort()).toEqual(
    [
      'put files ok 1',
      'put files superseded 1',
      'get files ok 1',
      'get files absent 1',
      'keys files ok 1',
      'delete files ok 1',
      'ping  ok 1',
      'get chunks unavailable 1',
      'get chunks timeout 1',
      'get chunks corrupt 1',
      'get chunks rejected 1',
    ].sort(),
  )
  const timed = (await seconds.get()).values.filter(({ metricName }) => metricName === 'seconds_count')
  expect(timed.reduce((sum, { value }) => sum + value, 0)).toBe(11)
  const summed = Object.fromEntries(
    (await bytes.get()).values.map(({ labels, value }) => [labels.direction, value]),
  )
  expect(summed).toEqual({ read: 100, written: 100 })
  await store.close()
})
