import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fileId, ROOT_INO } from '../../../src/catalog/index.ts'
import { decodeHeader, decodeShard, headerKey, shardKey } from '../../../src/content/index.ts'
import { changeDatabase } from '../../support/change-database.ts'
import { Client } from '../../support/rig/client.ts'
import { foundTree } from '../../support/rig/found-tree.ts'
import { Rig } from '../../support/rig/rig.ts'

const ENTRIES = 10
const NAMES = 160
const ROOT = fileId({ ino: ROOT_INO, generation: 0 })
let rig: Rig

/** The hash up to format 13, which anybody can find names for. */
const formerBucket = (name: Uint8Array): number => crc32(name) & 0xffff

/** Names that were all in one of 64 parts. */
function* namesOfOnePart(count: number): Generator<string> {
  for (let [nth, found] = [0, 0]; found < count; nth += 1) {
    const name = `name-${nth}`
    if (formerBucket(Buffer.from(name)) >= 65_536 / 64) continue
    found += 1
    yield name
  }
}

beforeEach(async () => {
  rig = await Rig.start({
    mode: 'drain',
    shardEntries: ENTRIES,
    fill: (source) => {
      for (const name of namesOfOnePart(NAMES)) writeFileSync(join(source, name), name)
    },
  })
  await rig.migrate()
  await rig.settle()
})

afterEach(() => rig.stop())

async function rootRecord(): Promise<{ generation: number; parts: number[] }> {
  const { memory } = rig.world
  const object = await memory.get('dirs', headerKey(ROOT))
  if (!object) throw new Error('the root has no record')
  const { recordGeneration: generation, shards } = decodeHeader(ROOT, object)
  const parts: number[] = []
  for (let shard = 0; shard < shards; shard += 1) {
    const key = shardKey(ROOT, generation, shard)
    const part = await memory.get('dirs', key)
    if (!part) throw new Error(`${key} is not there`)
    parts.push(decodeShard(key, part).entries.length)
  }
  return { generation, parts }
}

async function expectWhole(of: Rig): Promise<void> {
  expect((await of.verify()).differences).toEqual([])
  const { rig: again, result } = await Rig.rebuilt(of.world.memory)
  try {
    expect(result.failures).toEqual([])
    expect(Object.keys(await foundTree(again))).toHaveLength(NAMES)
    // Who has made its catalog from the store has names in other parts: the record is written anew.
    await again.settle()
    expect((await again.verify()).differences).toEqual([])
  } finally {
    await again.stop()
  }
}

test('P6: names that somebody has chosen for it do not make one part of a record long', async () => {
  const { parts } = await rootRecord()
  expect(parts.reduce((sum, length) => sum + length, 0)).toBe(NAMES)
  expect(Math.max(...parts)).toBeLessThan(5 * ENTRIES)
  await expectWhole(rig)
})

test.each(['at once', 'after a crash between its parts and the header'])(
  'P4: records of format 13 are written anew under another generation, %s',
  async (when) => {
    const before = await rootRecord()
    await rig.catalog.flush()
    await rig.mountDamaged((stateDir) =>
      changeDatabase(join(stateDir, 'catalog.db'), (database) => {
        database.function('former', { deterministic: true }, (name) => formerBucket(name as Uint8Array))
        database.exec(`DROP TABLE mounts; DROP TABLE unmet; DROP TABLE found_names;
        ALTER TABLE inodes DROP COLUMN superseded;
        DELETE FROM meta WHERE name = 'name-key'; UPDATE dirents SET bucket = former(name);
        PRAGMA user_version = 13`)
      }),
    )
    if (when !== 'at once') {
      rig.dieAt('content.directory.shards-stored')
      await rig.untilDead()
      await rig.restart('mount')
    }
    const client = new Client(rig)
    const [first = ''] = namesOfOnePart(1)
    await client.rename(first, 'other')
    await rig.settle()
    const after = await rootRecord()
    expect(after.generation).not.toBe(before.generation)
    expect(Math.max(...after.parts)).toBeLessThan(5 * ENTRIES)
    expect(await client.readPath('other')).toBe(first)
    await expectWhole(rig)
  },
)
