import fc from 'fast-check'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { ObjectToStore } from '../../../src/store/contract.ts'
import {
  StoreCorrupt,
  StoreRejected,
  StoreSuperseded,
  StoreTimeout,
  StoreUnavailable,
} from '../../../src/store/errors.ts'
import { type ResilienceOptions, ResilientStore } from '../../../src/store/resilience/store.ts'
import { blackHole, ScriptedStore } from '../../support/scripted-store.ts'

const DEADLINE = 30_000
const BASE: ResilienceOptions = {
  deadlineMs: DEADLINE,
  concurrency: 16,
  queue: 100,
  log: pino({ level: 'silent' }),
}

let scripted: ScriptedStore
let store: ResilientStore

beforeEach(() => {
  vi.useFakeTimers()
  scripted = new ScriptedStore()
  store = new ResilientStore(scripted, BASE)
})

afterEach(async () => {
  const closed = store.close()
  await vi.runAllTimersAsync()
  await closed
  vi.useRealTimers()
})

function objectOf(text: string, version = 1): ObjectToStore {
  return {
    value: Buffer.from(text),
    version: { epoch: 0, version },
    contentType: 'text/plain',
    metadata: {},
  }
}

/** The outcome of a request and the time at which it came, on the test's clock. */
class Watched<T> {
  at: number | undefined
  value: T | undefined
  error: unknown

  constructor(work: Promise<T>) {
    work.then(
      (value) => {
        this.at = performance.now()
        this.value = value
      },
      (error: unknown) => {
        this.at = performance.now()
        this.error = error
      },
    )
  }
}

function watch<T>(work: Promise<T>): Watched<T> {
  return new Watched(work)
}

/** Lets everything run that is due now, and nothing that is due later. */
async function settle(): Promise<void> {
  await vi.advanceTimersByTimeAsync(0)
}

function count(operation: string): number {
  return scripted.calls.filter((call) => call === operation).length
}

const refused = async () => {
  throw new StoreUnavailable('connection refused')
}

describe('one request', () => {
  test('P6: a store that does not answer costs the deadline and no more', async () => {
    scripted.script = blackHole
    const start = performance.now()
    const put = watch(store.put('files', 'a', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE - 1)
    expect(put.at).toBeUndefined()
    await vi.advanceTimersByTimeAsync(1)
    expect(put.at).toBe(start + DEADLINE)
    expect(put.error).toBeInstanceOf(StoreTimeout)
    expect(put.error).toMatchObject({ outcomeUnknown: true })
    expect(String(put.error)).toContain('files "a"')
    // Several attempts: another connection may lead to another node.
    expect(count('put')).toBeGreaterThanOrEqual(2)
  })

  test('P4: a blip is hidden: what is worth repeating is repeated', async () => {
    let failures = 3
    scripted.script = async (operation, proceed) => {
      if (operation === 'put' && failures > 0) {
        failures -= 1
        throw failures % 2 === 0 ? new StoreUnavailable('no quorum') : new StoreTimeout('slow')
      }
      await proceed()
    }
    const put = watch(store.put('files', 'a', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE)
    expect(put.error).toBeUndefined()
    expect(put.at).toBeDefined()
    expect(count('put')).toBe(4)
  })

  test('the wait between attempts grows, and no two callers wait in step', async () => {
    const times = new Map<string, number[]>()
    scripted.script = async (operation) => {
      times.set(operation, [...(times.get(operation) ?? []), performance.now()])
      throw new StoreUnavailable('down')
    }
    watch(store.get('files', 'a'))
    watch(store.put('files', 'a', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE)
    const gaps = (list: number[] = []) => list.slice(1).map((at, index) => at - (list[index] ?? 0))
    const [reads, writes] = [gaps(times.get('get')), gaps(times.get('put'))]
    expect(Math.max(...reads)).toBeGreaterThan((reads[0] ?? 0) * 2)
    expect(Math.max(...reads)).toBeLessThanOrEqual(2001)
    expect(reads).not.toEqual(writes)
  })

  test.each([
    new StoreRejected('too large'),
    new StoreCorrupt('checksum'),
    new StoreSuperseded('newer'),
    new TypeError('a mistake in the adapter'),
  ])('what will not change is not repeated: %s', async (error) => {
    scripted.script = async () => {
      throw error
    }
    const get = watch(store.get('files', 'a'))
    await settle()
    expect(get.error).toBe(error)
    expect(count('get')).toBe(1)
    expect(store.health.healthy).toBe(true)
  })

  test('P2: a write that once may have happened stays unknown, whatever refused the later attempts', async () => {
    let attempts = 0
    scripted.script = async (_operation, proceed) => {
      attempts += 1
      if (attempts > 1) throw new StoreUnavailable('connection refused')
      await proceed()
      throw new StoreTimeout('the acknowledgement was lost')
    }
    const put = watch(store.put('files', 'a', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE)
    expect(put.error).toMatchObject({ retryable: true, outcomeUnknown: true })
    expect((await resolved(scripted.inner.get('files', 'a')))?.value.toString()).toBe('x')
  })

  test('a write that was refused every time is known not to have happened', async () => {
    scripted.script = refused
    const put = watch(store.put('files', 'a', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE)
    expect(put.error).toBeInstanceOf(StoreUnavailable)
    expect(put.error).toMatchObject({ outcomeUnknown: false })
    expect(String(put.error)).toContain('connection refused')
  })

  test('P6: an abort ends the wait at once and is no failure of the store', async () => {
    scripted.script = blackHole
    for (let round = 0; round < 5; round += 1) {
      const controller = new AbortController()
      const put = watch(store.put('files', 'a', objectOf('x'), { signal: controller.signal }))
      const get = watch(store.get('files', 'a', { signal: controller.signal }))
      await vi.advanceTimersByTimeAsync(100)
      controller.abort()
      await settle()
      expect(put.error).toMatchObject({ retryable: true, outcomeUnknown: true })
      expect(get.error).toMatchObject({ retryable: true })
    }
    scripted.script = (_operation, proceed) => proceed()
    expect(store.health.healthy).toBe(true)
    await resolved(store.put('files', 'a', objectOf('x')))
  })

  test('after an abort or a deadline nothing more is sent', async () => {
    scripted.script = refused
    const controller = new AbortController()
    watch(store.get('files', 'a', { signal: controller.signal }))
    await vi.advanceTimersByTimeAsync(100)
    controller.abort()
    await settle()
    const sent = count('get')
    await vi.advanceTimersByTimeAsync(DEADLINE)
    expect(count('get')).toBe(sent)
  })
})

/** Advances the clock as far as the work needs. */
async function resolved<T>(work: Promise<T>): Promise<T> {
  const watched = watch(work)
  for (let step = 0; step < 1000 && watched.at === undefined; step += 1) await vi.advanceTimersByTimeAsync(10)
  return work
}

describe('an outage', () => {
  test.each([
    ['black hole', blackHole],
    ['refusal', refused],
  ])('P6: costs all callers together one deadline: %s', async (_name, script) => {
    await resolved(store.put('files', 'a', objectOf('x')))
    scripted.script = script
    const start = performance.now()
    const first = watch(store.get('files', 'a'))
    await vi.advanceTimersByTimeAsync(DEADLINE / 2)
    const second = watch(store.get('files', 'a'))
    const write = watch(store.put('files', 'a', objectOf('y', 2)))
    await vi.advanceTimersByTimeAsync(DEADLINE / 2)
    // Whoever comes while the first still waits does not get a deadline of his own.
    expect([first.at, second.at]).toEqual([start + DEADLINE, start + DEADLINE])
    await vi.advanceTimersByTimeAsync(DEADLINE / 3)
    expect(write.at).toBeLessThanOrEqual(start + (DEADLINE * 4) / 3)
    const sent = scripted.calls.filter((call) => call !== 'ping').length
    for (let caller = 0; caller < 50; caller += 1) {
      const now = performance.now()
      const [read, put] = [watch(store.get('files', 'a')), watch(store.put('files', 'b', objectOf('z')))]
      await settle()
      expect([read.at, put.at]).toEqual([now, now])
      expect(read.error).toBeInstanceOf(StoreUnavailable)
      expect(put.error).toMatchObject({ outcomeUnknown: false })
    }
    expect(scripted.calls.filter((call) => call !== 'ping').length).toBe(sent)
  })

  test('P4: ends with the first ping that is answered, and no caller is used to find out', async () => {
    scripted.script = refused
    watch(store.get('files', 'a'))
    await vi.advanceTimersByTimeAsync(10 * DEADLINE)
    expect(store.health.healthy).toBe(false)
    expect(count('get')).toBeLessThan(100)
    scripted.script = (_operation, proceed) => proceed()
    const changed = vi.fn()
    store.onHealthChange(changed)
    await vi.advanceTimersByTimeAsync(10_001)
    expect(changed).toHaveBeenCalledOnce()
    expect(store.health.healthy).toBe(true)
    const get = watch(store.get('files', 'a'))
    await vi.advanceTimersByTimeAsync(10)
    expect(get.error).toBeUndefined()
    expect(get.at).toBeDefined()
  })

  test('a ping that answers while requests fail gives one attempt, not a deadline, to whoever tries next', async () => {
    scripted.script = async (operation, proceed) => {
      if (operation !== 'ping') throw new StoreUnavailable('no quorum')
      await proceed()
    }
    watch(store.get('files', 'a'))
    await vi.advanceTimersByTimeAsync(DEADLINE + 10_000)
    for (let round = 0; round < 5; round += 1) {
      const now = performance.now()
      const get = watch(store.get('files', 'a'))
      await settle()
      expect(get.at).toBe(now)
      await vi.advanceTimersByTimeAsync(10_001)
    }
    scripted.script = (_operation, proceed) => proceed()
    await vi.advanceTimersByTimeAsync(10_001)
    await resolved(store.get('files', 'a'))
    // Trusted again: a blip is hidden as ever.
    let failures = 2
    scripted.script = async (_operation, proceed) => {
      failures -= 1
      if (failures >= 0) throw new StoreUnavailable('blip')
      await proceed()
    }
    expect(await resolved(store.get('files', 'a'))).toBeUndefined()
  })

  test('a disk that takes no writes does not stop reads', async () => {
    await resolved(store.put('files', 'a', objectOf('x')))
    scripted.script = async (operation, proceed) => {
      if (operation === 'put') throw new StoreUnavailable('disk full')
      await proceed()
    }
    const heard: boolean[] = []
    store.onHealthChange(({ healthy }) => heard.push(healthy))
    for (let round = 0; round < 5; round += 1) {
      watch(store.put('files', 'b', objectOf('y')))
      await vi.advanceTimersByTimeAsync(DEADLINE / 2)
      expect((await resolved(store.get('files', 'a')))?.value.toString()).toBe('x')
    }
    // The pings that are answered meanwhile do not make it healthy.
    expect(heard).toEqual([false])
    expect(store.health.lastError).toContain('disk full')
    scripted.script = (_operation, proceed) => proceed()
    await vi.advanceTimersByTimeAsync(10_001)
    await resolved(store.put('files', 'b', objectOf('y')))
    expect(heard).toEqual([false, true])
  })

  test('one slow key among many does not open the circuit', async () => {
    await resolved(store.put('files', 'good', objectOf('x')))
    scripted.script = async (_operation, proceed) => proceed()
    const slow = new ScriptedStore()
    slow.script = blackHole
    const get = scripted.get.bind(scripted)
    scripted.get = (space, key, options) =>
      key === 'slow' ? slow.get(space, key, options) : get(space, key, options)
    const lost = Array.from({ length: 5 }, () => watch(store.get('files', 'slow')))
    for (let second = 0; second < 60; second += 1) {
      await vi.advanceTimersByTimeAsync(1000)
      expect((await resolved(store.get('files', 'good')))?.value.toString()).toBe('x')
    }
    for (const { error } of lost) expect(error).toBeInstanceOf(StoreTimeout)
  })

  test('is noticed without any request, and its end too', async () => {
    const heard: boolean[] = []
    const stop = store.onHealthChange(({ healthy }) => heard.push(healthy))
    const before = store.health.since
    scripted.script = refused
    await vi.advanceTimersByTimeAsync(30_000)
    expect(heard).toEqual([false])
    expect(store.health.lastError).toContain('connection refused')
    expect(store.health.since.getTime()).toBeGreaterThan(before.getTime())
    scripted.script = (_operation, proceed) => proceed()
    await vi.advanceTimersByTimeAsync(10_001)
    expect(heard).toEqual([false, true])
    stop()
    scripted.script = refused
    await vi.advanceTimersByTimeAsync(60_000)
    expect(heard).toEqual([false, true])
  })

  test('a store that is asked all the time is not pinged besides', async () => {
    for (let second = 0; second < 60; second += 1) {
      await resolved(store.get('files', 'a'))
      await vi.advanceTimersByTimeAsync(1000)
    }
    expect(count('ping')).toBe(0)
  })
})

describe('many requests', () => {
  test('P6: no more than the limit are at the store, and the rest wait their turn', async () => {
    await store.close()
    scripted = new ScriptedStore()
    store = new ResilientStore(scripted, { ...BASE, concurrency: 3, queue: 50 })
    let running = 0
    let most = 0
    scripted.script = async (_operation, proceed) => {
      running += 1
      most = Math.max(most, running)
      await new Promise((resolve) => setTimeout(resolve, 100))
      running -= 1
      await proceed()
    }
    const puts = Array.from({ length: 20 }, (_, at) => watch(store.put('files', `${at}`, objectOf('x'))))
    await vi.advanceTimersByTimeAsync(1000)
    expect(puts.every(({ at, error }) => at !== undefined && error === undefined)).toBe(true)
    expect(most).toBe(3)
  })

  test('P6: one more than may wait is refused at once and says so', async () => {
    await store.close()
    scripted = new ScriptedStore()
    store = new ResilientStore(scripted, { ...BASE, concurrency: 1, queue: 2 })
    scripted.script = blackHole
    watch(store.get('files', '1'))
    watch(store.get('files', '2'))
    watch(store.get('files', '3'))
    const fourth = watch(store.put('files', '4', objectOf('x')))
    await settle()
    expect(fourth.error).toBeInstanceOf(StoreUnavailable)
    expect(fourth.error).toMatchObject({ outcomeUnknown: false })
    expect(String(fourth.error)).toContain('2 requests wait')
  })

  test('P6: the wait for a turn counts, and it is no failure of the store', async () => {
    await store.close()
    scripted = new ScriptedStore()
    store = new ResilientStore(scripted, { ...BASE, concurrency: 1, attemptMs: DEADLINE })
    const start = performance.now()
    scripted.script = async (_operation, proceed) => {
      await new Promise((resolve) => setTimeout(resolve, DEADLINE - 1000))
      await proceed()
    }
    const first = watch(store.get('files', '1'))
    const second = watch(store.put('files', '2', objectOf('x')))
    const third = watch(store.put('files', '3', objectOf('x')))
    await vi.advanceTimersByTimeAsync(DEADLINE)
    expect(first.error).toBeUndefined()
    expect(second.at).toBe(start + DEADLINE)
    expect(second.error).toMatchObject({ outcomeUnknown: true })
    expect(third.at).toBe(start + DEADLINE)
    expect(third.error).toMatchObject({ outcomeUnknown: false })
    expect(count('put')).toBe(1)
  })

  test('close ends whoever waits, and later requests', async () => {
    scripted.script = blackHole
    const pending = [watch(store.get('files', 'a')), watch(store.put('files', 'a', objectOf('x')))]
    await settle()
    await store.close()
    await settle()
    for (const { error } of pending) expect(error).toBeInstanceOf(StoreUnavailable)
    await expect(store.get('files', 'a')).rejects.toBeInstanceOf(StoreUnavailable)
    await expect(store.ping()).rejects.toBeInstanceOf(StoreUnavailable)
  })
})

describe('a listing', () => {
  beforeEach(async () => {
    for (const key of ['a', 'b', 'c']) await resolved(store.put('files', key, objectOf(key)))
  })

  test('is not cut short by a consumer that takes its time', async () => {
    const keys: string[] = []
    const listing = watch(
      (async () => {
        for await (const key of store.keys('files')) {
          keys.push(key)
          await new Promise((resolve) => setTimeout(resolve, 5 * DEADLINE))
        }
      })(),
    )
    await vi.advanceTimersByTimeAsync(20 * DEADLINE)
    expect(listing.error).toBeUndefined()
    expect(keys).toEqual(['a', 'b', 'c'])
  })

  test('P1: that fails or stalls in the middle is an error, never a short list', async () => {
    for (const end of [refused, blackHole]) {
      const keys: string[] = []
      const listing = watch(
        (async () => {
          for await (const key of store.keys('files')) {
            keys.push(key)
            scripted.script = end
          }
        })(),
      )
      await vi.advanceTimersByTimeAsync(DEADLINE + 10)
      expect(listing.error).toMatchObject({ retryable: true })
      expect(keys).toEqual(['a'])
      scripted.script = (_operation, proceed) => proceed()
      await vi.advanceTimersByTimeAsync(30_000)
    }
  })
})

describe('random faults', () => {
  type Fault = 'none' | 'refused' | 'answer lost' | 'hang' | 'answer late'
  const fault = fc.constantFrom<Fault>('none', 'none', 'refused', 'answer lost', 'hang', 'answer late')

  function inject(faults: readonly Fault[]): void {
    let next = 0
    scripted.script = async (operation, proceed) => {
      const kind = operation === 'ping' ? 'none' : (faults[next++] ?? 'none')
      if (kind === 'refused') throw new StoreUnavailable('connection refused')
      if (kind === 'hang') return blackHole()
      if (kind === 'answer late') await new Promise((resolve) => setTimeout(resolve, DEADLINE / 2))
      await proceed()
      if (kind === 'answer lost') throw new StoreTimeout('no acknowledgement')
    }
  }

  test('P1, P4: what is acknowledged is read, a late write of an old version never wins, and it ends well', async () => {
    let count = 0
    await fc.assert(
      fc.asyncProperty(
        fc.array(fault, { maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        async (faults, last) => {
          const key = `${(count += 1)}`
          inject(faults)
          let acknowledged = 0
          for (let version = 1; version <= last; version += 1) {
            const put = watch(store.put('files', key, objectOf(`${version}`, version)))
            await vi.advanceTimersByTimeAsync(DEADLINE)
            expect(put.at).toBeDefined()
            if (put.error === undefined) acknowledged = version
            else expect(put.error).toMatchObject({ retryable: true })
            const get = watch(store.get('files', key))
            await vi.advanceTimersByTimeAsync(DEADLINE)
            expect(get.at).toBeDefined()
            const seen = get.value
            if (seen) expect(seen.value.toString()).toBe(`${seen.version.version}`)
            if (get.error === undefined) {
              expect(seen?.version.version ?? 0).toBeGreaterThanOrEqual(acknowledged)
            }
          }
          // The faults end; whatever is late arrives; then one more repetition sets it right.
          inject([])
          await vi.advanceTimersByTimeAsync(2 * DEADLINE)
          await resolved(store.put('files', key, objectOf(`${last}`, last)))
          expect((await resolved(store.get('files', key)))?.value.toString()).toBe(`${last}`)
        },
      ),
      { numRuns: 60 },
    )
  })
})
