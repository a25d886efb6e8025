import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmdirSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { onFaultPoint } from '../../../src/base/faults.ts'
import { ROOT_INO } from '../../../src/catalog/index.ts'
import { fallocate } from '../../../src/sys/index.ts'
import { Client } from '../../support/rig/client.ts'
import { Rig } from '../../support/rig/rig.ts'

const MiB = 1 << 20
const LARGE = 80 * MiB
const name = (text: string): Buffer => Buffer.from(text)

/** Room is made within a tick by whatever frees a file in it: here that is seen to the byte, for nobody else writes. */
function ownTmpfs(): string | undefined {
  const place = mkdtempSync(join(tmpdir(), 'ferryfs-large-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=600m', 'none', place], { stdio: 'ignore' })
    return place
  } catch {
    rmdirSync(place)
    return undefined
  }
}

const place = ownTmpfs()

describe.skipIf(place === undefined).each(['mirror', 'prefer-store'] as const)(
  'P6: a large file that goes keeps nobody, in %s',
  (mode) => {
    const parent = place ?? ''
    let rig: Rig
    let client: Client
    /** Bytes that were free at each passage. */
    let freeAt: Map<string, number>

    const free = (): number => {
      const { bsize, bfree } = statfsSync(parent)
      return bsize * bfree
    }

    beforeEach(async () => {
      freeAt = new Map()
      onFaultPoint((point) => freeAt.set(point, free()))
      rig = await Rig.start({
        mode,
        parent,
        fill: (source) => {
          const descriptor = openSync(join(source, 'large'), 'w')
          fallocate(descriptor, 0, 0, LARGE)
          closeSync(descriptor)
          writeFileSync(join(source, 'small'), 'small')
        },
      })
      client = new Client(rig)
    })

    afterEach(async () => {
      onFaultPoint(undefined)
      await rig.stop()
    })

    async function expectFreedLater(effect: string, before: number): Promise<void> {
      expect(freeAt.get(effect)).toBeLessThan(before + LARGE / 2)
      await expect.poll(free).toBeGreaterThan(before + LARGE / 2)
    }

    test('one that is unlinked is freed by a thread', async () => {
      const before = free()
      await rig.perform((overlay, request) => overlay.unlink(request, ROOT_INO, name('large')))
      await expectFreedLater('overlay.unlink.effect', before)
    })

    test('so is one that was read, and is open for that', async () => {
      const node = await client.node('large')
      const { handle } = await rig.perform((overlay, request) => overlay.open(request, node, 0))
      await rig.perform((overlay, request) => overlay.read(request, node, handle, 0, 10))
      const before = free()
      await rig.perform((overlay, request) => overlay.unlink(request, ROOT_INO, name('large')))
      await rig.perform((overlay, request) => overlay.release(request, node, handle))
      rig.overlay.forget(node, 1n)
      await expectFreedLater('overlay.unlink.effect', before)
    })

    test('so is one that another replaces', async () => {
      const before = free()
      await rig.perform((overlay, request) =>
        overlay.rename(request, ROOT_INO, name('small'), ROOT_INO, name('large'), 0),
      )
      await expectFreedLater('overlay.rename.effect', before)
    })

    test('so is one that is cut', async () => {
      const node = await client.node('large')
      let turns = 0
      let ended = false
      const count = (): void => {
        turns += 1
        if (!ended) setImmediate(count)
      }
      const turnAt = new Map<string, number>()
      onFaultPoint((point) => turnAt.set(point, turns))
      setImmediate(count)
      await rig.perform((overlay, request) => overlay.setattr(request, node, { size: 5 }))
      ended = true
      expect(turnAt.get('overlay.setattr.resized')).toBeGreaterThan(
        turnAt.get('overlay.truncate.dirty') ?? turns,
      )
      expect(await client.lookup('large')).toMatchObject({ attributes: { size: 5 } })
    })
  },
)

afterAll(() => {
  if (place === undefined) return
  execFileSync('umount', [place])
  rmdirSync(place)
})
