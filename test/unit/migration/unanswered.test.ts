import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { acceptLosses, isCompared, mayAccept } from '../../../src/migration/index.ts'
import { clock, turns } from '../../support/rig/clock.ts'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { versionsOf } from '../../support/rig/state-copy.ts'

// A copy of the state directory is put back, and the store has no answer for one object: neither what it is nor that it is lost.

const PATHS = ['a', 'a/f', 'a/b', 'a/b/g', 'a/b/c', 'a/b/c/h', 'top']

let drained: DrainedCopy

afterEach(() => drained.rig.stop())

async function started(): Promise<void> {
  drained = await DrainedCopy.start((source) => {
    for (const path of ['a', 'a/b', 'a/b/c']) mkdirSync(join(source, path))
    for (const path of ['a/f', 'a/b/g', 'a/b/c/h', 'top']) writeFileSync(join(source, path), `of ${path}`)
  })
  await drained.copy()
  await drained.drain()
  const { client } = drained
  await client.overwrite('a/b/g', 0, 'CHANGED')
  await client.rename('a/b/c/h', 'a/moved')
  await client.create('new', 'new')
  await drained.rig.settle()
  await drained.rig.tell()
}

/** Whoever asks for the object has no answer. */
async function putBackWithout(key: string): Promise<void> {
  const name = key.slice(key.indexOf(' ') + 1).replaceAll(/[.\\]/g, '\\$&')
  drained.rig.world.inject({ fault: 'unavailable', on: ['get'], key: new RegExp(`^${name}$`) })
  await drained.putBack()
}

const doubtful = async (): Promise<Map<string, string>> =>
  new Map(
    (await drained.rig.verify()).differences
      .filter(({ kind }) => kind === 'doubtful')
      .map(({ path, detail }) => [path, detail]),
  )

describe('P2, P4: an object for which the store has no answer', () => {
  test('whichever: all else is compared and accepted, it is listed, and once it answers nothing is missing', async () => {
    await started()
    const keys = Object.keys(await versionsOf(drained.rig)).sort()
    await drained.rig.stop()
    expect(keys.length).toBeGreaterThan(12)
    for (const nth of keys.keys()) {
      await started()
      const { rig } = drained
      const wanted = await drained.tree()
      const key = Object.keys(await versionsOf(rig)).sort()[nth] ?? ''
      await putBackWithout(key)
      expect([isCompared(rig.context), mayAccept(rig.context)], key).toEqual([false, true])
      const left = rig.catalog.doubts.toCompare(100)
      const leftOut = await clock.until(acceptLosses(rig.context))
      expect(leftOut.items, key).toEqual([])
      expect(rig.catalog.doubts.toCompare(100), key).toEqual(left)
      const still = await doubtful()
      expect(still.size, key).toBe(left.length + (left.includes(1n) ? 0 : 1))
      expect([...still.values()].join('\n'), key).toContain('if it has no answer for this alone')
      await turns(2000)
      rig.world.heal()
      await rig.restart('mount')
      expect(isCompared(rig.context), key).toBe(true)
      expect(await drained.lacking(wanted), key).toEqual([])
      await drained.accept()
      expect(await drained.lacking(wanted), key).toEqual([])
      expect((await rig.verify()).differences, key).toEqual([])
      await rig.stop()
    }
    await started()
  })

  test('of a file alone: no other file is left in doubt', async () => {
    await started()
    const { rig, client } = drained
    await putBackWithout('files a/f')
    await clock.until(acceptLosses(rig.context))
    expect([...(await doubtful()).keys()].sort()).toEqual(['.', 'a/f'])
    const before = await versionsOf(rig)
    await client.overwrite('top', 0, 'OF')
    await client.create('made since', 'made since')
    await clock.until(rig.context.carrier.idle(30_000))
    const after = await versionsOf(rig)
    expect(after['files top']).not.toEqual(before['files top'])
    expect(after['files a/f']).toEqual(before['files a/f'])
    expect(Object.keys(after).some((one) => one.includes('made since'))).toBe(true)
    rig.world.heal()
    await rig.restart('mount')
    await drained.accept()
    expect((await rig.verify()).differences).toEqual([])
    expect(await client.readPath('top')).toBe('OF top')
    expect(await client.readPath('a/f')).toBe('of a/f')
  })

  test.each(['files a/f', 'dirs'])(
    'that is deleted there is lost, and that is accepted: %s',
    async (which) => {
      await started()
      const { rig, client } = drained
      const directory = (await client.node('a/b')).toString(16)
      const keys = Object.keys(await versionsOf(rig))
      const key = which === 'dirs' ? keys.find((one) => one.startsWith(`dirs ${directory}-`)) : which
      await putBackWithout(key ?? '')
      const [space = '', name = ''] = (key ?? '').split(/ (.*)/s)
      rig.world.heal()
      await drained.loseObject(space as 'files' | 'dirs', name)
      await rig.restart('mount')
      expect(isCompared(rig.context)).toBe(true)
      await drained.accept()
      expect((await rig.verify()).differences).toEqual([])
      expect(await drained.errors(PATHS.filter((path) => path !== 'a/b/c/h'))).toEqual(
        which === 'dirs' ? [] : ['a/f: ENOENT'],
      )
    },
  )
})
