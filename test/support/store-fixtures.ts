import { expect } from 'vitest'
import type { KeySpace, KeyValueStore, ObjectToStore, ObjectVersion } from '../../src/store/contract.ts'

/** A store and the part of it that belongs to one test. */
export interface Current {
  readonly store: KeyValueStore
  /** Prefix of the keys of this test. */
  readonly own: string
}

export function version(number: number, epoch = 0): ObjectVersion {
  return { epoch, version: number }
}

export function object(value: Buffer | string, at: ObjectVersion = version(1)): ObjectToStore {
  return {
    value: typeof value === 'string' ? Buffer.from(value) : value,
    version: at,
    contentType: 'application/octet-stream',
    metadata: {},
  }
}

/** Bytes that differ at every offset and between seeds, so that a mix-up shows. */
export function bytes(length: number, seed: number): Buffer {
  const value = Buffer.allocUnsafe(length)
  let state = (seed * 2654435761 + 1) >>> 0
  for (let at = 0; at < length; at += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    value[at] = state >>> 24
  }
  return value
}

export async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  )
}

/** Compares bytes as bytes: a deep comparison of large buffers takes seconds. */
export function expectSame(found: ObjectToStore | undefined, expected: ObjectToStore | undefined): void {
  const { value, ...rest } = found ?? {}
  const { value: expectedValue, ...expectedRest } = expected ?? {}
  expect(rest).toEqual(expectedRest)
  expect(value?.toString('latin1') === expectedValue?.toString('latin1'), 'same bytes').toBe(true)
}

export async function listed(store: KeyValueStore, space: KeySpace, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.keys(space)) if (key.startsWith(prefix)) keys.push(key)
  return keys.sort()
}
