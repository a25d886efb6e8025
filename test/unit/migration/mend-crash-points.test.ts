import { existsSync, mkdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { isDirectory } from '../../../src/base/attributes.ts'
import { acceptLosses } from '../../../src/migration/index.ts'
import { Client } from '../../support/rig/client.ts'
import { DrainedCopy } from '../../support/rig/drained-copy.ts'
import { Rig, type RigOptions } from '../../support/rig/rig.ts'
import { versionsOf } from '../../support/rig/state-copy.ts'

const KiB = 1024
const MiB = 1024 * KiB

let rig: Rig

afterEach(() => rig.stop())

const lengthOfLog = (): number => statSync(join(rig.stateDir, 'catalog.db-wal')).size

/** What a catalog shows that has forgotten what was acknowledged behind `before`. */
async function forgetting(
  before: (client: Client) => Promise<void>,
  lost: (client: Client) => Promise<void>,
  options: RigOptions = {},
): Promise<Client> {
  rig = await Rig.start({ mode: 'drain', ...options })
  const client = new Client(rig)
  await before(client)
  await rig.catalog.flush()
  const length = lengthOfLog()
  await lost(client)
  await rig.mountDamaged((stateDir) => truncateSync(join(stateDir, 'catalog.db-wal'), length))
  return client
}

/** By path, what there is: the content of a file, where a symlink leads. */
async function tree(client: Client): Promise<Record<string, string>> {
  const found = await client.tree()
  return Object.fromEntries(
    [...found].map(([path, { mode, content }]) => [
      path.slice(1),
      isDirectory(Number.parseInt(mode, 8)) ? '/' : content.toString('latin1'),
    ]),
  )
}

const doubtful = async (): Promise<Map<string, string>> =>
  new Map(
    (await rig.verify()).differences
      .filter(({ kind }) => kind === 'doubtful')
      .map(({ path, detail }) => [path, detail]),
  )

describe('P2: what the catalog has lost is taken from the store, by version', () => {
  test('a file that was made, and one that was changed', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('f', 'first')
        await rig.settle()
      },
      async (client) => {
        await client.overwrite('f', 0, 'SECOND')
        await client.create('new', 'new')
        await rig.settle()
      },
    )
    expect(await tree(client)).toEqual({ f: 'SECOND', new: 'new' })
    const doubts = await doubtful()
    expect(doubts.get('f')).toMatch(/taken from the store/)
    expect(doubts.get('new')).toMatch(/taken from the store/)
    await rig.restart('mount')
    expect(await tree(client)).toEqual({ f: 'SECOND', new: 'new' })
    rig.catalog.doubts.accept()
    await client.overwrite('f', 0, 'third')
    await rig.settle()
    await rig.restart('mount')
    expect(await tree(client)).toEqual({ f: 'thirdD', new: 'new' })
    expect((await rig.verify()).differences).toEqual([])
  })

  test('in the place of what was staged before it; of what was staged last a copy is kept', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('f', 'a'.repeat(3000))
        await rig.settle()
        rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
        await client.overwrite('f', 10, 'staged')
      },
      async (client) => {
        await client.overwrite('f', 2000, 'later')
        await rig.settle()
      },
    )
    const { f = '' } = await tree(client)
    expect([f.slice(10, 16), f.slice(2000, 2005)]).toEqual(['staged', 'later'])
  })

  test('P1: not where what is staged is newer', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('f', 'first')
        await rig.settle()
        rig.world.inject({ fault: 'unavailable', on: ['put', 'ping'] })
        await client.overwrite('f', 0, 'FIRST, and longer')
      },
      async (client) => {
        await client.overwrite('f', 0, 'lost')
      },
    )
    const { f } = await tree(client)
    expect(['FIRST, and longer', 'lostT, and longer']).toContain(f)
    expect((await doubtful()).get('f')).toMatch(/nothing newer/)
  })

  test('chunks, when the file grew, shrank, or became one object', async () => {
    const body = (seed: number, size: number): string =>
      Buffer.from(Array.from({ length: size }, (_, at) => (at * seed + (at >> 9)) & 255)).toString('latin1')
    const sizes = [
      [2 * MiB, 3 * MiB + 7],
      [3 * MiB, MiB + 9],
      [2 * MiB, 300],
      [300, 2 * MiB],
    ] as const
    const client = await forgetting(
      async (client) => {
        for (const [nth, [size]] of sizes.entries()) await client.create(`f${nth}`, body(3 + nth, size))
        await rig.settle()
      },
      async (client) => {
        for (const [nth, [, size]] of sizes.entries()) {
          const node = await client.node(`f${nth}`)
          await client.truncate(node, 0)
          await client.write(node, 0, Buffer.from(body(7 + nth, size), 'latin1'))
        }
        await rig.settle()
      },
      { inlineLimit: 64 * KiB },
    )
    const found = await tree(client)
    for (const [nth, [, size]] of sizes.entries())
      expect(found[`f${nth}`] === body(7 + nth, size), `f${nth}`).toBe(true)
  })

  test('directories with all that is in them, and what was moved or replaced', async () => {
    const client = await forgetting(
      async (client) => {
        await client.mkdir('a')
        await client.mkdir('b')
        await client.create('a/moved', 'moved')
        await client.create('target', 'old')
        await client.create('many', 'many')
        await client.create('untouched', 'untouched')
        await rig.settle()
      },
      async (client) => {
        await client.mkdir('new')
        await client.mkdir('new/below')
        await client.create('new/below/deep', 'deep')
        await client.rename('a/moved', 'b/moved')
        await client.create('target.tmp', 'saved as editors do')
        await client.rename('target.tmp', 'target')
        await client.link('many', 'b/second')
        await client.symlink('symlink', 'b/moved')
        await client.rename('b', 'new/b')
        await rig.settle()
      },
    )
    expect(await tree(client)).toEqual({
      a: '/',
      new: '/',
      'new/b': '/',
      'new/b/moved': 'moved',
      'new/b/second': 'many',
      'new/below': '/',
      'new/below/deep': 'deep',
      many: 'many',
      symlink: 'b/moved',
      target: 'saved as editors do',
      untouched: 'untouched',
    })
    expect(await client.describe(await client.node('many'))).toMatchObject({ nlink: 2 })
  })

  test('a file that got the key of one that was removed', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('f', 'the first of its name')
        await client.create('g', 'g')
        await rig.settle()
      },
      async (client) => {
        await client.unlink('f')
        await rig.settle()
        await client.create('f', 'the second')
        await rig.settle()
        await client.rename('f', 'g')
        await rig.settle()
      },
    )
    expect(await tree(client)).toMatchObject({ g: 'the second' })
  })

  test('P3: a directory whose record was split since', async () => {
    const names = (from: number, to: number): string[] =>
      Array.from({ length: to - from }, (_, at) => `name ${from + at}`)
    const client = await forgetting(
      async (client) => {
        for (const name of names(0, 6)) await client.create(name, name)
        await rig.settle()
      },
      async (client) => {
        for (const name of names(6, 40)) await client.create(name, name)
        await rig.settle()
      },
      { shardEntries: 8 },
    )
    const wanted = Object.fromEntries(names(0, 40).map((name) => [name, name]))
    expect(await tree(client)).toEqual(wanted)
    rig.catalog.doubts.accept()
    await client.create('one more', 'one more')
    await rig.settle()
    expect((await rig.verify()).differences).toEqual([])
    const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
    const found = await tree(new Client(rebuilt))
    await rebuilt.stop()
    expect(result.failures).toEqual([])
    expect(found).toEqual({ ...wanted, 'one more': 'one more' })
  })

  test('what was removed may be back, and nothing that came later goes', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('gone', 'gone')
        await client.create('early', 'early')
        await rig.settle()
        await client.unlink('early')
      },
      async (client) => {
        await client.unlink('gone')
        await rig.settle()
      },
    )
    const found = await tree(client)
    expect(found.early).toBeUndefined()
    expect([undefined, 'gone']).toContain(found.gone)
  })

  test('files that have left the volume since', async () => {
    const client = await forgetting(
      async () => undefined,
      async () => {
        await rig.migrate()
        await rig.settle()
        for (let round = 0; round < 4; round += 1) await rig.reap()
        expect(existsSync(join(rig.source, 'd/old'))).toBe(false)
      },
      {
        fill: (source) => {
          mkdirSync(join(source, 'd'))
          writeFileSync(join(source, 'd/old'), 'old')
          writeFileSync(join(source, 'top'), 'top')
        },
      },
    )
    expect(await tree(client)).toEqual({ d: '/', 'd/old': 'old', top: 'top' })
  })

  test('P3: nothing is written to the store, nothing goes from it', async () => {
    const objects = async (): Promise<Record<string, unknown>> => {
      const found: Record<string, unknown> = {}
      for (const space of ['files', 'chunks', 'dirs'] as const)
        for await (const key of rig.world.memory.keys(space))
          found[`${space} ${key}`] = (await rig.world.memory.get(space, key))?.version
      return found
    }
    let before: Record<string, unknown> = {}
    await forgetting(
      async (client) => {
        await client.create('f', 'f')
        await rig.settle()
      },
      async (client) => {
        await client.create('g', 'g')
        await client.rename('f', 'h')
        await rig.settle()
        before = await objects()
      },
    )
    await rig.restart('mount')
    await rig.reap()
    expect(await objects()).toEqual(before)
  })

  test('when the store answers again, and what was made meanwhile stays', async () => {
    const client = await forgetting(
      async (client) => {
        await client.create('f', 'first')
        await rig.settle()
      },
      async (client) => {
        await client.overwrite('f', 0, 'SECOND')
        await client.create('new', 'new')
        await client.create('other', 'other')
        await rig.settle()
        rig.world.inject({ fault: 'unavailable', on: ['get', 'put', 'ping', 'delete'] })
      },
    )
    expect((await doubtful()).get('f')).toMatch(/could not be asked/)
    await client.create('new', 'made since')
    rig.world.heal()
    await rig.restart('mount')
    expect(await tree(client)).toEqual({ f: 'SECOND', new: 'made since', other: 'other' })
  })

  test('migration.mend.compared: a crash there; the next start goes on', async () => {
    const client = await forgetting(
      async (client) => {
        for (let at = 0; at < 5; at += 1) await client.create(`f${at}`, 'first')
        await rig.settle()
      },
      async (client) => {
        for (let at = 0; at < 5; at += 1) await client.overwrite(`f${at}`, 0, 'SECOND')
        await rig.settle()
        rig.world.inject({ fault: 'unavailable', on: ['get', 'put', 'ping', 'delete'] })
      },
    )
    rig.world.heal()
    for (let nth = 1; nth < 4; nth += 1) {
      rig.dieAt('migration.mend.compared', nth)
      await rig.restart('mount').catch(() => undefined)
    }
    rig.disarm()
    await rig.restart('mount')
    expect(Object.values(await tree(client))).toEqual(Array.from({ length: 5 }, () => 'SECOND'))
  })
})

describe('P2, P4: losses that are accepted', () => {
  test('migration.mend.accepting: a death there; they are listed until they are accepted once more', async () => {
    const drained = await DrainedCopy.start((source) => {
      mkdirSync(join(source, 'd'))
      writeFileSync(join(source, 'd/f'), 'f')
    })
    rig = drained.rig
    const directory = (await drained.client.node('d')).toString(16)
    await drained.copy()
    await drained.drain()
    const header = Object.keys(await versionsOf(rig)).find((key) => key.startsWith(`dirs ${directory}-`))
    await drained.loseObject('dirs', (header ?? '').slice('dirs '.length))
    await drained.putBack()
    rig.dieAt('migration.mend.accepting')
    acceptLosses(rig.context).catch(() => undefined)
    await rig.untilDead()
    await rig.restart('mount')
    expect(await doubtful()).not.toEqual(new Map())
    await drained.accept()
    expect((await rig.verify()).differences).toEqual([])
    await rig.setMode('store-only')
    const { rig: rebuilt, result } = await Rig.rebuilt(rig.world.memory)
    const found = await tree(new Client(rebuilt))
    await rebuilt.stop()
    expect([result.failures, found]).toEqual([[], { d: '/', 'd/f': 'f' }])
  })
})
