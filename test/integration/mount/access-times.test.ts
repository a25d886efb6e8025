import { lstatSync, lutimesSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const LONG_AGO_S = 1_577_836_800
const NAMES = ['d/f', 'd/big', 'd/l', 'd'] as const

/** As stat(2) has them, which moves none. */
const accessTimes = (root: string): Record<string, number> =>
  Object.fromEntries(NAMES.map((name) => [name, Math.floor(lstatSync(join(root, name)).atimeMs / 1000)]))

const unmoved = Object.fromEntries(NAMES.map((name) => [name, LONG_AGO_S]))

describeMounted('access times of what nobody but ferryfs reads', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
    mkdirSync(ferry.under('d'))
    writeFileSync(ferry.under('d/f'), 'a')
    writeFileSync(ferry.under('d/big'), pattern(3_000_000, 1))
    symlinkSync('f', ferry.under('d/l'))
    for (const name of NAMES) lutimesSync(ferry.under(name), LONG_AGO_S, lstatSync(ferry.under(name)).mtime)
  })

  afterEach(() => ferry.clear())

  test.each(['mirror', 'prefer-store', 'drain'])('P1: stay as they were, %s', async (mode) => {
    await ferry.mount('--mode', mode)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    if (mode !== 'drain') expect(accessTimes(ferry.source), 'on the volume').toEqual(unmoved)
    await ferry.done('verify', ferry.target)
    expect(accessTimes(ferry.target), 'through the mount').toEqual(unmoved)
    const back = join(ferry.root, 'back')
    await ferry.done('restore', ferry.target, back)
    expect(accessTimes(back), 'restored').toEqual(unmoved)
    if (mode !== 'drain') expect(accessTimes(ferry.source), 'on the volume at last').toEqual(unmoved)
    await ferry.unmount()
  })

  test('P1: move where an application reads, as on the volume', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.call.readFile(ferry.at('d/f'))
    readdirSync(ferry.at('d'))
    await ferry.call.readlink(ferry.at('d/l'))
    const moved = accessTimes(ferry.source)
    for (const name of ['d/f', 'd', 'd/l']) expect(moved[name], name).toBeGreaterThan(LONG_AGO_S)
    expect(moved['d/big']).toBe(LONG_AGO_S)
    await ferry.unmount()
  })
})
