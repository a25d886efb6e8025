import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'vitest'
import { PowerDisks } from '../../support/power/power-disks.ts'
import { describePower } from '../../support/power/power-ferry.ts'
import { WeakVolume } from '../../support/volume/weak-volume.ts'

// mkfs asks for the source of every mount of the machine, and a ferryfs mount's is its legacy volume.
describePower('the harness', () => {
  test('makes disks beside a volume that it has made hang, and lets that go on', async () => {
    const root = realpathSync(mkdtempSync(join(tmpdir(), 'ferryfs-power-hang-')))
    const volume = new WeakVolume(join(root, 'directory'), join(root, 'source'))
    const overlay = join(root, 'overlay')
    for (const path of [join(root, 'directory'), overlay]) mkdirSync(path)
    try {
      await volume.start()
      execFileSync('mount', ['-t', 'tmpfs', volume.target, overlay])
      volume.hang()
      const making = PowerDisks.make(join(root, 'images'), [join(root, 'disk')])
      volume.goOn()
      const disks = await making
      await disks.sync()
      await disks.remove()
    } finally {
      await volume.remove()
      execFileSync('umount', ['-l', overlay])
      rmSync(root, { recursive: true, force: true })
    }
  })
})
