import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const hasOverlayfs = readFileSync('/proc/filesystems', 'utf8').includes('\toverlay\n')

// A container engine keeps its data so: what is removed of the lower tree is a whiteout in the upper one.
describeMounted('an overlayfs whose upper directory is on the mount', () => {
  let ferry: Ferry
  let merged: string

  beforeEach(() => {
    ferry = new Ferry()
    merged = join(ferry.root, 'merged')
    for (const path of ['lower/d', 'merged']) mkdirSync(join(ferry.root, path), { recursive: true })
    for (const path of ['a', 'b', 'd/inside']) writeFileSync(join(ferry.root, 'lower', path), path)
    for (const path of ['upper', 'work']) mkdirSync(ferry.under(path))
  })

  afterEach(async () => {
    unmountOverlay()
    await ferry.clear()
  })

  function mountOverlay(): void {
    const [lower, upper, work] = [join(ferry.root, 'lower'), ferry.at('upper'), ferry.at('work')]
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`
    execFileSync('mount', ['-t', 'overlay', '-o', options, 'ferryfs-test', merged])
  }

  function unmountOverlay(): void {
    if (readFileSync('/proc/mounts', 'utf8').includes(` ${merged} overlay `)) execFileSync('umount', [merged])
  }

  const shown = (): string[] => readdirSync(merged, { recursive: true, encoding: 'utf8' }).sort()

  test.skipIf(!hasOverlayfs).each(['mirror', 'drain'])(
    'P1: in %s shows the same after everything moved',
    async (mode) => {
      await ferry.mount('--mode', mode)
      mountOverlay()
      rmSync(join(merged, 'a'))
      renameSync(join(merged, 'b'), join(merged, 'c'))
      rmSync(join(merged, 'd'), { recursive: true })
      mkdirSync(join(merged, 'd'))
      writeFileSync(join(merged, 'd', 'new'), 'new')
      unmountOverlay()
      await ferry.done('migrate', ferry.target, '--wait')
      if (mode === 'drain') await ferry.done('mode', ferry.target, 'store-only', '--wait')
      mountOverlay()
      expect(shown()).toEqual(['c', 'd', join('d', 'new')])
      expect(readFileSync(join(merged, 'c'), 'utf8')).toBe('b')
      expect(existsSync(join(ferry.root, 'lower', 'a'))).toBe(true)
      unmountOverlay()
      await ferry.done('verify', ferry.target)
    },
  )
})
