import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { turns } from '../../support/rig/clock.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

const lengthOfLog = (): number => statSync(join(rig.stateDir, 'catalog.db-wal')).size

const cutTo =
  (length: number) =>
  (stateDir: string): void =>
    truncateSync(join(stateDir, 'catalog.db-wal'), length)

/** A catalog that has forgotten what was acknowledged behind `before`. */
async function forgetting(
  before: (client: Client) => Promise<void>,
  lost: (client: Client) => Promise<void>,
): Promise<Client> {
  rig = await Rig.start({ mode: 'drain' })
  const client = new Client(rig)
  await before(client)
  await rig.catalog.flush()
  const length = lengthOfLog()
  await lost(client)
  await rig.mountDamaged(cutTo(length))
  return client
}

/** Versions of files and chunks in the store, by key. */
async function objects(): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {}
  for (const space of ['files', 'chunks'] as const) {
    for await (const key of rig.world.memory.keys(space))
      found[`${space} ${key}`] = (await rig.world.memory.get(space, key))?.version
  }
  return found
}

const doubtfulPaths = async (): Promise<string[]> =>
  (await rig.verify()).differences.filter(({ kind }) => kind === 'doubtful').map(({ path }) => path)

describe('P2: a catalog that lost what it had acknowledged', () => {
  test('knows it, lists what may be old, and stays in doubt until somebody accepts it', async () => {
    await forgetting(
      async (client) => {
        await client.create('old', 'old')
      },
      async (client) => {
        await client.create('new', 'new')
      },
    )
    expect(rig.catalog.doubts.any).toBe(true)
    expect(await doubtfulPaths()).toContain('.')
    await rig.restart('mount')
    expect(await doubtfulPaths()).toContain('.')
    rig.catalog.doubts.accept()
    expect(await doubtfulPaths()).toEqual([])
    await rig.restart('mount')
    expect(await doubtfulPaths()).toEqual([])
  })

  test('knows it where the witness of the log is gone as well', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    await client.create('old', 'old')
    const length = lengthOfLog()
    await client.create('new', 'new')
    await rig.mountDamaged((stateDir) => {
      rmSync(join(stateDir, 'catalog.db-witness'))
      cutTo(length)(stateDir)
    })
    expect(rig.catalog.doubts.any).toBe(true)
    expect(await doubtfulPaths()).toContain('.')
  })

  test('knows it where nothing is left but its file', async () => {
    rig = await Rig.start({ mode: 'drain' })
    // What it is to the store gets into the file.
    await rig.restart('mount')
    await new Client(rig).create('new', 'new')
    await rig.mountDamaged((stateDir) => {
      for (const suffix of ['-wal', '-shm', '-witness', '-sums'])
        rmSync(join(stateDir, `catalog.db${suffix}`))
    })
    expect(rig.catalog.doubts.any).toBe(true)
    expect(await doubtfulPaths()).toContain('.')
  })

  test('keeps the staged bytes that it does not know of', async () => {
    await forgetting(
      async (client) => {
        await client.create('old', 'old')
      },
      async (client) => {
        await client.create('new', 'what nobody else has')
      },
    )
    const kept = join(rig.stateDir, 'lost')
    const texts = readdirSync(kept).map((name) => readFileSync(join(kept, name), 'utf8'))
    expect(texts).toContain('what nobody else has')
    await rig.restart('mount')
    expect(readdirSync(kept)).toHaveLength(texts.length)
  })

  test('deletes nothing in the store, and puts no older version over a newer one', async () => {
    await forgetting(
      async (client) => {
        const node = await client.create('f', 'first')
        await rig.settle()
        await client.write(node, 0, 'FIRST')
      },
      async (client) => {
        const node = await client.node('f')
        await client.write(node, 0, 'second, and longer')
        await rig.settle()
        await client.unlink('f')
        await client.create('f', 'third')
        await rig.settle()
      },
    )
    const before = await objects()
    await rig.restart('mount')
    rig.context.carrier.wake()
    await rig.reap()
    await turns(2000)
    expect(await objects()).toEqual(before)
  })

  test('takes a new epoch: numbers of lost versions are used again by nobody', async () => {
    let epoch = 0
    await forgetting(
      async (client) => {
        await client.create('old', 'old')
        epoch = rig.epoch
      },
      async (client) => {
        await client.create('new', 'new')
      },
    )
    expect(rig.epoch).toBeGreaterThan(epoch)
  })

  test('is not in doubt after a plain kill', async () => {
    rig = await Rig.start({ mode: 'drain' })
    const client = new Client(rig)
    await client.create('f', 'bytes')
    await rig.mountDamaged(() => undefined)
    expect(rig.catalog.doubts.any).toBe(false)
    expect(await client.readPath('f')).toBe('bytes')
    expect(existsSync(join(rig.stateDir, 'lost'))).toBe(false)
  })
})
