import { randomUUID } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Semaphore } from '../../src/base/concurrency.ts'
import type { KeySpace, KeyValueStore, ObjectToStore, ObjectVersion } from '../../src/store/contract.ts'
import {
  StoreCorrupt,
  StoreError,
  StoreRejected,
  StoreSuperseded,
  StoreUnavailable,
} from '../../src/store/errors.ts'
import { bytes, type Current, expectSame, failureOf, listed, object, version } from './store-fixtures.ts'
import { modelTest } from './store-model.ts'
import { type KilledWriter, runKilledWriter, writtenObject } from './store-writer.ts'

/** A store to hold to the contract, and what the suite may do to it beside its interface. */
export interface StoreUnderTest {
  readonly store: KeyValueStore
  /** Closes `store` and opens the same data again. */
  readonly reopen?: () => Promise<KeyValueStore>
  /** Flips a byte of what is stored under the key, behind the back of the store. */
  readonly corrupt?: (space: KeySpace, key: string) => Promise<void>
  /** What a child process passes to `openStore` to open the same data; `release` lets go of it here first. */
  readonly elsewhere?: {
    readonly url: string
    readonly stateDir: string
    readonly namespace: string
    readonly release: () => Promise<void>
  }
  /** Removes everything; `store` may be closed already. */
  readonly dispose?: () => Promise<void>
}

/** Which of the optional parts `open` provides; a test that needs what is not supported is skipped and says so. */
export interface StoreSupports {
  readonly reopen: boolean
  readonly corrupt: boolean
  readonly elsewhere: boolean
}

const SPACES: readonly KeySpace[] = ['files', 'chunks', 'dirs', 'meta']

/** `test`, or a skipped one that says why in its title. */
function testIf(supported: boolean, reason: string): (title: string, body: () => Promise<void>) => void {
  return (title, body) => (supported ? test(title, body) : test.skip(`${title} (${reason})`, body))
}

/**
 * Holds an implementation of `KeyValueStore` to its contract. `open` is called for every test and may return the same
 * data each time: the suite uses keys of its own.
 */
export function storeContract(
  name: string,
  open: () => Promise<StoreUnderTest>,
  supports: StoreSupports,
): void {
  describe(`store contract: ${name}`, () => {
    let subject: StoreUnderTest
    let store: KeyValueStore
    let own: string

    beforeEach(async () => {
      subject = await open()
      store = subject.store
      own = `${randomUUID()}/`
    })

    afterEach(async () => {
      await store.close()
      await subject.dispose?.()
    })

    objectTests(() => ({ store, own }))
    versionTests(() => ({ store, own }))
    limitTests(() => ({ store, own }))
    endingTests(() => ({ store, own }))
    modelTest(() => ({ store, own }))

    testIf(supports.reopen, 'it keeps nothing')(
      'P2: what was acknowledged is there after a reopen',
      async () => {
        const large = bytes(Math.min(store.capabilities.maxValueBytes, 1024 * 1024), 1)
        await store.put('chunks', `${own}large`, object(large, version(0)))
        await store.put('files', `${own}small`, { ...object('small', version(3, 2)), metadata: { a: 'b' } })
        await store.put('files', `${own}gone`, object('gone'))
        await store.delete('files', `${own}gone`, version(1))
        if (!subject.reopen) throw new Error('the store under test does not say how to reopen it')
        store = await subject.reopen()
        expect((await store.get('chunks', `${own}large`))?.value.equals(large)).toBe(true)
        expectSame(await store.get('files', `${own}small`), {
          ...object('small', version(3, 2)),
          metadata: { a: 'b' },
        })
        expect(await store.get('files', `${own}gone`)).toBeUndefined()
      },
    )

    testIf(supports.corrupt, 'its bytes cannot be reached')(
      'P1: damaged bytes are StoreCorrupt and name the key',
      async () => {
        if (!subject.corrupt) throw new Error('the store under test does not say how to damage it')
        for (const [key, size] of [
          ['small', 100],
          ['large', 512 * 1024],
        ] as const) {
          await store.put('files', own + key, object(bytes(size, 1)))
          await store.put('files', `${own}${key}-beside`, object(bytes(size, 2)))
          await subject.corrupt('files', own + key)
          const failure = await failureOf(store.get('files', own + key))
          expect(failure).toBeInstanceOf(StoreCorrupt)
          expect(String(failure)).toContain(own + key)
          expect((await store.get('files', `${own}${key}-beside`))?.value.equals(bytes(size, 2))).toBe(true)
          await store.put('files', own + key, object(bytes(size, 3), version(2)))
          expect((await store.get('files', own + key))?.value.equals(bytes(size, 3))).toBe(true)
        }
      },
    )

    testIf(supports.elsewhere, 'no other process can reach it')(
      'P2: everything that a killed process had acknowledged is there, and nothing torn',
      async () => {
        const { elsewhere, reopen } = subject
        if (!elsewhere || !reopen)
          throw new Error('the store under test does not say how to reach it elsewhere')
        await elsewhere.release()
        // Kills at several depths of the pipeline: the first writes, and well into it.
        for (const [round, acknowledgements] of [1, 40, 150].entries()) {
          const run: KilledWriter = await runKilledWriter({
            ...elsewhere,
            prefix: `${own}${round}/`,
            killAfter: acknowledgements,
          })
          expect(run.acknowledged.length).toBeGreaterThanOrEqual(acknowledgements)
          store = await reopen()
          for (const key of run.acknowledged) {
            const expected = writtenObject(key)
            const found = await store.get('files', key, { expect: expected.version })
            expect(found?.value.equals(expected.value), `${key} after kill -9`).toBe(true)
          }
          for (const key of run.begun) {
            const found = await store.get('files', key)
            if (found) expect(found.value.equals(writtenObject(key).value), `${key} is torn`).toBe(true)
          }
          await store.close()
        }
        store = await reopen()
      },
    )
  })
}

function objectTests(current: () => Current): void {
  test('P1: get returns what put stored, all of it', async () => {
    const { store, own } = current()
    const stored: ObjectToStore = {
      value: bytes(5000, 7),
      version: version(12, 3),
      contentType: 'text/html',
      metadata: { mode: '33188', 'sha-256': 'Zm9v', path: 'a%20b' },
    }
    await store.put('files', `${own}a`, stored)
    expectSame(await store.get('files', `${own}a`), stored)
  })

  test('P1: absent is undefined, in every key space', async () => {
    const { store, own } = current()
    await store.put('files', `${own}b`, object('x'))
    for (const space of SPACES) expect(await store.get(space, `${own}a`)).toBeUndefined()
    expect(await store.get('chunks', `${own}b`)).toBeUndefined()
  })

  test('P1: an object that is expected and absent, or older, is an error and never undefined', async () => {
    const { store, own } = current()
    await store.put('files', `${own}a`, object('x', version(4, 1)))
    const absent = await failureOf(store.get('files', `${own}b`, { expect: version(1) }))
    const older = await failureOf(store.get('files', `${own}a`, { expect: version(5, 1) }))
    const earlierEpoch = await failureOf(store.get('files', `${own}a`, { expect: version(0, 2) }))
    for (const failure of [absent, older, earlierEpoch]) {
      expect(failure).toBeInstanceOf(store.capabilities.consistent ? StoreError : StoreUnavailable)
    }
    expect((await store.get('files', `${own}a`, { expect: version(4, 1) }))?.version).toEqual(version(4, 1))
    expect((await store.get('files', `${own}a`, { expect: version(3, 1) }))?.version).toEqual(version(4, 1))
    expect((await store.get('files', `${own}a`, { expect: version(9, 0) }))?.version).toEqual(version(4, 1))
  })

  test('the four key spaces do not mix', async () => {
    const { store, own } = current()
    await Promise.all(SPACES.map((space) => store.put(space, `${own}same`, object(space))))
    await store.delete('dirs', `${own}same`, version(1))
    for (const space of SPACES) {
      const found = await store.get(space, `${own}same`)
      expect(found?.value.toString()).toBe(space === 'dirs' ? undefined : space)
    }
  })

  test('P1: empty and large values come back as they were', async () => {
    const { store, own } = current()
    const largest = Math.min(store.capabilities.maxValueBytes, 8 * 1024 * 1024)
    for (const size of [0, 1, 4095, 4096, 32 * 1024, 32 * 1024 + 1, 1024 * 1024, largest]) {
      const value = bytes(size, size)
      await store.put('chunks', `${own}${size}`, object(value, version(0)))
      const found = await store.get('chunks', `${own}${size}`)
      expect(found?.value.equals(value), `${size} bytes`).toBe(true)
    }
  })

  test('P1: a value changes its size class with its versions', async () => {
    const { store, own } = current()
    for (const [at, size] of [10, 200_000, 5, 300_000, 200_000, 0].entries()) {
      await store.put('files', `${own}a`, object(bytes(size, at), version(at)))
      expect((await store.get('files', `${own}a`))?.value.equals(bytes(size, at))).toBe(true)
    }
  })

  test('keys are binary-safe Unicode: none is altered, none is taken for another', async () => {
    const { store, own } = current()
    const names = ['a', 'A', 'a/', '/a', '//', '.', '..', 'a b', ' ', '%', '%41', '%2F', '+', '\\', '"', "'"]
    names.push('\u0001', '\n', '\u007f', '\u0085', 'é', 'e\u0301', '\u202e', '\ufeff', '\uffff', '😀', '日本')
    for (const [at, name] of names.entries()) await store.put('files', own + name, object(`value ${at}`))
    for (const [at, name] of names.entries()) {
      const found = await store.get('files', own + name)
      expect(found?.value.toString(), JSON.stringify(name)).toBe(`value ${at}`)
    }
    if (store.capabilities.listing) {
      expect(await listed(store, 'files', own)).toEqual(names.map((name) => own + name).sort())
    }
  })

  test('keys() lists each key once and no deleted one', async (context) => {
    const { store, own } = current()
    if (!store.capabilities.listing) return context.skip('the store does not list')
    const keys = Array.from({ length: 2100 }, (_, at) => `${own}${at}`)
    // As many at once as a daemon would send: each has the time of one operation.
    const slots = new Semaphore(32)
    const options = { fresh: true }
    await Promise.all(keys.map((key) => slots.run(() => store.put('dirs', key, object('x'), options))))
    await Promise.all(keys.slice(0, 50).map((key) => store.delete('dirs', key, version(1))))
    expect(await listed(store, 'dirs', own)).toEqual(keys.slice(50).sort())
    expect(await listed(store, 'files', own)).toEqual([])
  })

  test('P1: metadata comes back as it was, whatever its names', async () => {
    const { store, own } = current()
    const visible = fc.string({
      unit: fc.integer({ min: 0x21, max: 0x7e }).map((c) => String.fromCharCode(c)),
    })
    const names = visible.filter((name) => name.length > 0)
    let count = 0
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(names, visible, { maxKeys: 20, noNullPrototype: true }),
        async (metadata) => {
          count += 1
          await store.put('files', `${own}${count}`, { ...object('x'), metadata })
          expectSame(await store.get('files', `${own}${count}`), { ...object('x'), metadata })
        },
      ),
      { numRuns: 40 },
    )
  })
}

function versionTests(current: () => Current): void {
  test('a newer version replaces, a higher epoch beats any version', async () => {
    const { store, own } = current()
    const order = [version(1, 0), version(2, 0), version(900, 0), version(0, 1), version(1, 1), version(0, 7)]
    for (const at of order) {
      await store.put('files', `${own}a`, object(`${at.epoch}.${at.version}`, at))
      expect((await store.get('files', `${own}a`))?.version).toEqual(at)
    }
  })

  test('P1: an older version is StoreSuperseded and changes nothing', async () => {
    const { store, own } = current()
    for (const size of [10, 300_000]) {
      const key = `${own}${size}`
      await store.put('files', key, object(bytes(size, 1), version(5, 1)))
      for (const older of [version(4, 1), version(99, 0), version(0, 0)]) {
        const put = await failureOf(store.put('files', key, object(bytes(size, 2), older)))
        expect(put).toBeInstanceOf(StoreSuperseded)
        expect(String(put)).toContain(key)
        expect(await failureOf(store.delete('files', key, older))).toBeInstanceOf(StoreSuperseded)
      }
      expectSame(await store.get('files', key), object(bytes(size, 1), version(5, 1)))
    }
  })

  test('P1: a put that replaces one version goes over no other, however many try', async () => {
    const { store, own } = current()
    const put = (number: number, replaces: ObjectVersion | 'nothing') =>
      failureOf(store.put('meta', own, object(`${number}`, version(0, number)), { replaces }))
    expect(await put(1, version(0, 7))).toBeInstanceOf(StoreSuperseded)
    expect(await put(2, 'nothing')).toBeUndefined()
    expect(await put(2, 'nothing')).toBeUndefined()
    expect(await put(3, 'nothing')).toBeInstanceOf(StoreSuperseded)
    expect(await put(3, version(0, 1))).toBeInstanceOf(StoreSuperseded)
    const outcomes = await Promise.all([3, 4, 5].map((number) => put(number, version(0, 2))))
    for (const outcome of outcomes.filter((one) => one !== undefined))
      expect(outcome).toBeInstanceOf(StoreSuperseded)
    expect(outcomes.filter((one) => one === undefined)).toHaveLength(1)
    const winner = outcomes.indexOf(undefined) + 3
    expectSame(await store.get('meta', own), object(`${winner}`, version(0, winner)))
  })

  test('P4: repeating a put or a delete is harmless', async () => {
    const { store, own } = current()
    for (const size of [10, 300_000]) {
      const stored = object(bytes(size, 1), version(0))
      for (let repetition = 0; repetition < 3; repetition += 1) await store.put('chunks', own, stored)
      await Promise.all([1, 2, 3, 4].map(() => store.put('chunks', own, stored)))
      expectSame(await store.get('chunks', own), stored)
      for (let repetition = 0; repetition < 3; repetition += 1) await store.delete('chunks', own, version(0))
      expect(await store.get('chunks', own)).toBeUndefined()
    }
  })

  test('delete takes the versions up to its own, and absent is success', async () => {
    const { store, own } = current()
    await store.delete('files', `${own}never`, version(1))
    await store.put('files', `${own}a`, object('x', version(3)))
    await store.delete('files', `${own}a`, version(8))
    expect(await store.get('files', `${own}a`)).toBeUndefined()
    await store.put('files', `${own}a`, object('again', version(9)))
    expect((await store.get('files', `${own}a`))?.value.toString()).toBe('again')
  })

  test('P1: of concurrent puts of one key the highest version wins, in any order', async () => {
    const { store, own } = current()
    const versions = fc.uniqueArray(fc.record({ epoch: fc.nat(2), version: fc.nat(20) }), {
      minLength: 2,
      maxLength: 8,
      selector: (at) => `${at.epoch}.${at.version}`,
    })
    let count = 0
    await fc.assert(
      fc.asyncProperty(versions, fc.boolean(), async (order, large) => {
        const key = `${own}${(count += 1)}`
        const contentOf = (at: ObjectVersion) => bytes(large ? 40_000 : 40, at.epoch * 100 + at.version)
        const outcomes = await Promise.all(
          order.map((at) => failureOf(store.put('files', key, object(contentOf(at), at)))),
        )
        for (const outcome of outcomes) {
          if (outcome !== undefined) expect(outcome).toBeInstanceOf(StoreSuperseded)
        }
        const highest = [...order].sort((a, b) => b.epoch - a.epoch || b.version - a.version)[0] ?? version(0)
        expectSame(await store.get('files', key), object(contentOf(highest), highest))
      }),
      { numRuns: 15 },
    )
  })

  test('P1: a reader beside a writer sees whole objects, and versions that only grow', async () => {
    const { store, own } = current()
    const last = 30
    const contentOf = (at: number) => bytes(at % 2 === 0 ? 100 : 60_000, at)
    await store.put('files', own, object(contentOf(0), version(0)))
    let writing = true
    const writer = (async () => {
      for (let at = 1; at <= last; at += 1) await store.put('files', own, object(contentOf(at), version(at)))
    })().finally(() => {
      writing = false
    })
    let seen = 0
    while (writing) {
      // A store may answer without a turn of the event loop; the writer needs one.
      await nextTurn()
      const found = await store.get('files', own, { expect: version(seen) })
      expect(found?.value.equals(contentOf(found.version.version))).toBe(true)
      expect(found?.version.version).toBeGreaterThanOrEqual(seen)
      seen = found?.version.version ?? seen
    }
    await writer
    expect((await store.get('files', own))?.version).toEqual(version(last))
  })
}

function limitTests(current: () => Current): void {
  test('a key of 16,384 bytes is taken', async () => {
    const { store, own } = current()
    for (const filler of ['k', 'é']) {
      const room = 16_384 - Buffer.byteLength(own)
      const key = own + filler.repeat(room / Buffer.byteLength(filler))
      await store.put('files', key, object('x'))
      expect((await store.get('files', key))?.value.toString()).toBe('x')
      await store.delete('files', key, version(1))
    }
  })

  test('P6: what is outside the limits is StoreRejected and stores nothing', async () => {
    const { store, own } = current()
    const badKeys = ['', 'k'.repeat(16_385), 'é'.repeat(8193), 'nul\0', 'half \ud83d pair']
    for (const key of badKeys) {
      expect(await failureOf(store.put('files', key, object('x')))).toBeInstanceOf(StoreRejected)
      expect(await failureOf(store.get('files', key))).toBeInstanceOf(StoreRejected)
      expect(await failureOf(store.delete('files', key, version(1)))).toBeInstanceOf(StoreRejected)
    }
    const badObjects: ObjectToStore[] = [
      { ...object('x'), metadata: { 'a b': 'x' } },
      { ...object('x'), metadata: { '': 'x' } },
      { ...object('x'), metadata: { a: 'é' } },
      { ...object('x'), metadata: { a: 'line\nbreak' } },
      { ...object('x'), contentType: '' },
      { ...object('x'), contentType: 'text/plain\r\n' },
      object('x', version(-1)),
      object('x', version(1, 0.5)),
      object('x', version(2 ** 53)),
      object(Buffer.alloc(store.capabilities.maxValueBytes + 1)),
    ]
    for (const bad of badObjects) {
      expect(await failureOf(store.put('files', `${own}a`, bad))).toBeInstanceOf(StoreRejected)
    }
    expect(await store.get('files', `${own}a`)).toBeUndefined()
  })

  test('metadata of several KiB is taken', async () => {
    const { store, own } = current()
    const entries = Array.from({ length: 64 }, (_, at) => [`name-${at}`, `${at}`.repeat(60)])
    const metadata: Record<string, string> = Object.fromEntries(entries)
    await store.put('files', own, { ...object('x'), metadata })
    expect((await store.get('files', own))?.metadata).toEqual(metadata)
  })
}

function endingTests(current: () => Current): void {
  test('ping answers', async () => {
    await current().store.ping()
  })

  test('P6: whoever asks for one object after the other leaves the event loop to others', async () => {
    const { store, own } = current()
    await store.put('files', own, object('x'))
    for (const key of [own, `${own} absent`]) {
      const turn = nextTurn('next turn')
      const some = async (): Promise<void> => {
        for (let times = 0; times < 20; times += 1) await store.get('files', key)
      }
      expect(await Promise.race([some(), turn])).toBe('next turn')
    }
  })

  test('a request whose signal is aborted already does nothing and is worth a retry', async () => {
    const { store, own } = current()
    const signal = AbortSignal.abort()
    for (const request of [
      () => store.put('files', own, object('x'), { signal }),
      () => store.get('files', own, { signal }),
      () => store.delete('files', own, version(1), { signal }),
      () => store.ping({ signal }),
    ]) {
      const failure = await failureOf(request())
      expect(failure).toBeInstanceOf(StoreError)
      expect(failure).toMatchObject({ retryable: true })
    }
    expect(await store.get('files', own)).toBeUndefined()
  })

  test('P6: aborting ends the wait, and a write that may have happened says so', async () => {
    const { store, own } = current()
    const value = bytes(1024 * 1024, 1)
    const running = Array.from({ length: 8 }, (_, at) => {
      const controller = new AbortController()
      const put = store.put('files', `${own}${at}`, object(value), { signal: controller.signal })
      controller.abort()
      return failureOf(put)
    })
    for (const [at, failure] of (await Promise.all(running)).entries()) {
      expect(failure).toBeInstanceOf(StoreError)
      expect(failure).toMatchObject({ retryable: true })
      const found = await store.get('files', `${own}${at}`)
      if (!(failure instanceof StoreError && failure.outcomeUnknown)) expect(found).toBeUndefined()
      if (found) expect(found.value.equals(value)).toBe(true)
    }
  })

  test('after close every request is StoreUnavailable, and what was pending has settled', async () => {
    const { store, own } = current()
    await store.put('files', `${own}before`, object('x'))
    const pending = Array.from({ length: 20 }, (_, at) =>
      failureOf(store.put('files', `${own}${at}`, object(bytes(at * 5000, at)))),
    )
    await store.close()
    await store.close()
    for (const failure of await Promise.all(pending)) {
      if (failure !== undefined) expect(failure).toBeInstanceOf(StoreUnavailable)
    }
    for (const request of [
      () => store.put('files', own, object('x')),
      () => store.get('files', `${own}before`),
      () => store.delete('files', `${own}before`, version(1)),
      () => store.ping(),
    ]) {
      expect(await failureOf(request())).toBeInstanceOf(StoreUnavailable)
    }
    if (store.capabilities.listing) {
      expect(await failureOf(listed(store, 'files', own))).toBeInstanceOf(StoreUnavailable)
    }
  })
}
