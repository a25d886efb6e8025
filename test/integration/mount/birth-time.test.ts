import { lstatSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted, kernelIsAtLeast } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const PATHS = ['d', 'd/file', 'd/large', 'd/link'] as const
const NEW = ['made', 'made/file'] as const

// statx(2) of a FUSE file has one since Linux 6.6.
describeMounted('the time of birth', () => {
  let ferry: Ferry
  let births: Map<string, bigint>

  beforeEach(() => {
    ferry = new Ferry()
    mkdirSync(ferry.under('d'))
    writeFileSync(ferry.under('d/file'), 'file')
    writeFileSync(ferry.under('d/large'), Buffer.alloc(3 << 20, 1))
    symlinkSync('file', ferry.under('d/link'))
    births = new Map(PATHS.map((path) => [path, lstatSync(ferry.under(path), { bigint: true }).birthtimeNs]))
  })

  afterEach(() => ferry.clear())

  const supported = kernelIsAtLeast(6, 6)

  async function expectAll(): Promise<void> {
    for (const [path, birth] of births) expect(await ferry.call.birth(ferry.at(path)), path).toBe(birth)
  }

  async function makeMore(): Promise<void> {
    const before = BigInt(Date.now()) * 1_000_000n
    await ferry.call.mkdir(ferry.at('made'))
    await ferry.call.writeFile(ferry.at('made/file'), 'made')
    for (const path of NEW) {
      const birth = await ferry.call.birth(ferry.at(path))
      // A volume stamps by a clock that ticks every few milliseconds.
      expect(birth, path).toBeGreaterThan(before - 1_000_000_000n)
      births.set(path, birth)
    }
  }

  async function change(): Promise<void> {
    await ferry.call.writeFile(ferry.at('d/file'), 'changed')
    await ferry.call.utimens(ferry.at('d/file'), 5n, 5n)
    await ferry.call.chmod(ferry.at('made'), 0o700)
    await ferry.call.rename(ferry.at('d/large'), ferry.at('moved'))
    births.set('moved', births.get('d/large') ?? 0n)
    births.delete('d/large')
  }

  test.skipIf(!supported).each(['observe', 'mirror', 'prefer-store', 'drain'])(
    'P1: in %s is that of the volume, whatever happens to the file afterwards',
    async (mode) => {
      await ferry.mount('--mode', mode)
      await expectAll()
      await makeMore()
      await change()
      await expectAll()
      await ferry.remount()
      await expectAll()
    },
  )

  test.skipIf(!supported)('P1: is kept where the file has left the volume', async () => {
    await ferry.mount('--mode', 'drain')
    await makeMore()
    await change()
    await ferry.done('mode', ferry.target, 'store-only', '--wait')
    await expectAll()
    await ferry.remount()
    await expectAll()
  })
})
