import { expect, test } from 'vitest'
import { MODES, policyOf } from '../../src/base/modes.ts'
import type { Action } from './actions.ts'
import { combined, pairs } from './faults/combined.ts'
import type { Conductor, Group } from './faults/fault.ts'
import { FAULTS, faultNamed } from './faults/index.ts'
import { chosenFaults, plan, plans } from './matrix.ts'
import { readOptions, Usage } from './options.ts'

const everything = { seed: 42, modes: MODES, faults: FAULTS, pairs: true, variant: undefined }

function firstPass(seed: number) {
  const found: ReturnType<typeof plan>[] = []
  for (const one of plans({ ...everything, seed })) {
    if (one.pass > 0) return found
    found.push(one)
  }
  return found
}

function fault(name: string) {
  const found = faultNamed(name)
  if (!found) throw new Error(name)
  return found
}

const read: Action = { do: 'read', path: 'seed/0/k0', offset: 0, length: 1, direct: true }
const write: Action = { do: 'write', path: 'a', offset: 0, length: 1, seed: 1 }

test('P1: a first pass meets every fault in every mode as an operator mounts it, and some pairs in every variant', () => {
  const first = firstPass(42)
  for (const mode of MODES) {
    const plain = first.filter((one) => one.mode === mode && one.settings.variant === 'plain')
    const met = new Set(plain.flatMap(({ faults }) => faults))
    expect(
      FAULTS.filter(({ name }) => !met.has(name)),
      mode,
    ).toEqual([])
    expect(first.some((one) => one.mode === mode && one.faults.some((name) => name.includes('+')))).toBe(true)
  }
  expect(new Set(first.map(({ settings }) => settings.variant)).size).toBe(3)
})

test('P1: later passes come to every pair of faults that may come together', () => {
  const names = pairs(FAULTS).map(({ name }) => name)
  for (const one of [
    'outage+kill-worker',
    'black-hole+staging-full',
    'kill-worker+legacy-gone',
    'reset+clock-step',
  ])
    expect(names).toContain(one)
  // One of them alone, one twice of a kind, two that nobody could tell apart.
  for (const never of ['kill-at-points', 'hostile-tree', 'none'])
    expect(names.filter((name) => name.split('+').includes(never))).toEqual([])
  expect(names).not.toContain('outage+black-hole')
  expect(names).not.toContain('legacy-full+legacy-eio')
  expect(names).not.toContain('kill-both+legacy-eio')
  const met = new Set<string>()
  let drawn = 0
  for (const one of plans({ ...everything, modes: ['mirror'] })) {
    for (const name of one.faults) if (name.includes('+')) met.add(name)
    drawn += 1
    if (drawn > 2000) break
  }
  const missed = names.filter((name) => !met.has(name) && !fault(name).idleIn?.(policyOf('mirror', false)))
  expect(missed.length).toBeLessThan(names.length / 10)
})

test('P7: one pass kills at every point of the volume and at every point of the catalog', () => {
  const halves = new Map<string, number>()
  for (const one of plans({ ...everything, seed: 12 })) {
    if (one.pass > 0) break
    if (one.faults.includes('kill-at-points')) halves.set(one.mode, one.settings.half)
  }
  for (const kind of [
    ['observe', 'mirror', 'prefer-store'],
    ['drain', 'store-only'],
  ]) {
    expect(new Set(kind.map((mode) => halves.get(mode)))).toEqual(new Set([0, 1]))
  }
})

test('P6: what a session needs follows from all of its faults', () => {
  const { settings } = plan('drain', chosenFaults(['outage+staging-full', 'clock-step']), 1, 'ack-store')
  expect(settings).toEqual({
    opTimeout: '5s',
    smallDisks: true,
    weakVolume: false,
    ownClock: true,
    powerDisks: false,
    half: 1,
    defaultTimeouts: false,
    variant: 'ack-store',
  })
})

test('P6: a share of the sessions has the limits of an operator, in every mode', () => {
  const own = new Set<string>()
  let drawn = 0
  for (const { mode, settings } of plans(everything)) {
    if (settings.defaultTimeouts) own.add(`${mode} ${settings.opTimeout}`)
    drawn += 1
    if (drawn > 500) break
  }
  expect([...own].sort()).toEqual(MODES.map((mode) => `${mode} 30s`).sort())
})

// Both would mount their own over the same directories.
test('P6: no session has disks that lose power and disks that fill up or fail', () => {
  let drawn = 0
  for (const { settings } of plans(everything)) {
    expect(settings.powerDisks && (settings.smallDisks || settings.weakVolume)).toBe(false)
    drawn += 1
    if (drawn > 2000) return
  }
})

test('P1: two faults excuse what either does, and nothing else', () => {
  const policy = policyOf('drain', false)
  const both = fault('outage+staging-full')
  expect(both.excuses?.(policy, write, 'EIO')).toBe(true)
  expect(both.excuses?.(policy, write, 'ENOSPC')).toBe(true)
  expect(both.excuses?.(policy, write, 'EROFS')).toBe(false)
  expect(fault('kill-worker+clock-step').excuses?.(policy, write, 'EIO')).toBe(false)
})

test('P1: a volume that fails excuses what needs it: nothing that has moved, nothing that the store is read for', () => {
  for (const name of ['legacy-eio', 'legacy-gone']) {
    const excuses = (mode: (typeof MODES)[number], action: Action, errno = 'EIO') =>
      fault(name).excuses?.(policyOf(mode, false), action, errno)
    expect(excuses('observe', read)).toBe(true)
    expect(excuses('mirror', write)).toBe(true)
    expect(excuses('mirror', write, 'ENOTCONN')).toBe(false)
    expect(excuses('prefer-store', read)).toBe(false)
    expect(excuses('prefer-store', write)).toBe(true)
    expect(excuses('drain', read)).toBe(false)
    expect(excuses('drain', write)).toBe(false)
    expect(fault(name).idleIn?.(policyOf('store-only', false))).toBeDefined()
  }
})

test('P6: options name faults, pairs and variants, and say what there is', () => {
  const { faults, variant } = readOptions(['--fault', 'outage+kill-worker', '--variant', 'source-readonly'])
  expect(chosenFaults(faults).map(({ groups }) => groups)).toEqual([['network', 'processes']])
  expect(variant).toBe('source-readonly')
  expect(() => chosenFaults(['outage+nonsense'])).toThrow(Usage)
  expect(() => readOptions(['--variant', 'nonsense'])).toThrow('plain, ack-store, source-readonly')
})

// With a store that was away already the legacy volume was never emptied, and the run hung.
test('of two faults at once the volume fails first and is well last', async () => {
  const happened: string[] = []
  const one = (name: string, group: Group) => ({
    name,
    groups: [group],
    begin: async () => void happened.push(`${name} begins`),
    end: async () => void happened.push(`${name} ends`),
  })
  const both = combined([one('outage', 'network'), one('legacy-eio', 'volume')])
  const conductor = {} as Conductor
  await both.begin?.(conductor)
  await both.end?.(conductor)
  expect(both.name).toBe('outage+legacy-eio')
  expect(happened).toEqual(['legacy-eio begins', 'outage begins', 'outage ends', 'legacy-eio ends'])
})
