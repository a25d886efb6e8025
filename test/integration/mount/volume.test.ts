import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { WeakVolume } from '../../support/volume/weak-volume.ts'

const LARGE = pattern(3_000_000, 1)

describeMounted('a legacy volume that fails', () => {
  let ferry: Ferry
  let volume: WeakVolume

  /** Where the files really are, whatever the volume in front of them says. */
  const behind = (path: string): string => `${ferry.root}/behind/${path}`

  beforeEach(async () => {
    ferry = new Ferry()
    mkdirSync(behind('dir'), { recursive: true })
    writeFileSync(behind('large'), LARGE)
    writeFileSync(behind('dir/small'), 'small')
    volume = new WeakVolume(behind(''), ferry.source)
    await volume.start()
  })

  afterEach(async () => {
    await volume.remove()
    await ferry.clear()
  })

  test('P4: a volume that was gone and is mounted again is taken up by itself, open files included', async () => {
    await ferry.mount('--mode', 'mirror')
    const held = await ferry.call.open(ferry.at('dir/small'), 2)
    await volume.remove()
    // EIO, not ENOTCONN: it is not this mount that has gone.
    await expect(ferry.call.read(held, 10)).rejects.toThrow('EIO')
    await expect(ferry.readAnew('large')).rejects.toThrow('EIO')
    await expect(ferry.run('touch', ferry.at('new'))).rejects.toThrow('Input/output error')
    await volume.start()
    await ferry.eventually('the volume taken up again', async () =>
      ferry.readAnew('large').then(
        (bytes) => bytes.equals(LARGE),
        () => false,
      ),
    )
    expect((await ferry.call.read(held, 10)).toString()).toBe('small')
    await ferry.call.close(held)
    await ferry.run('sh', '-c', `echo new >${ferry.at('new')}`)
    expect(readFileSync(behind('new'), 'utf8')).toBe('new\n')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
  })

  test('P1: prefer-store goes on reading from the store while the volume is gone, and says no to changes', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await volume.remove()
    expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
    expect((await ferry.readAnew('dir/small')).toString()).toBe('small')
    expect(await ferry.run('ls', ferry.target, ferry.at('dir'))).toMatch(/dir\nlarge\n(.*\n)*small\n$/)
    await expect(ferry.run('sh', '-c', `echo x >>${ferry.at('large')}`)).rejects.toThrow('Input/output error')
    expect((await ferry.readAnew('dir/small')).toString()).toBe('small')
  })

  test('P4: files that could not be read for a while are listed, and copied later without another command', async () => {
    await ferry.mount('--mode', 'mirror')
    await volume.fail('content')
    const { status, stdout } = await ferry.ferryfs('migrate', ferry.target, '--wait')
    expect(status, stdout).toBe(3)
    expect((await ferry.status()).failures.map(({ path }) => path).sort()).toEqual(['dir/small', 'large'])
    await volume.fail('nothing')
    await ferry.until(
      'nothing failed and all stored',
      ({ files }) => files.failed === 0 && files.stored === 2,
    )
  })

  test('P4: a tree that could not even be listed is gone through later without another command', async () => {
    await ferry.mount('--mode', 'mirror')
    await volume.fail('everything')
    expect((await ferry.ferryfs('migrate', ferry.target, '--wait')).status).toBe(3)
    await volume.fail('nothing')
    await ferry.until(
      'nothing failed and all stored',
      ({ files }) => files.failed === 0 && files.stored === 2,
    )
  })

  test('P7: a worker that follows one that was killed while the volume is gone serves what the store has, and then all', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await volume.remove()
    await ferry.killWorker()
    expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
    await expect(ferry.run('touch', ferry.at('new'))).rejects.toThrow('Input/output error')
    await volume.start()
    await ferry.eventually('the volume taken up', async () =>
      ferry.run('touch', ferry.at('new')).then(
        () => true,
        () => false,
      ),
    )
    expect(readFileSync(behind('new'), 'utf8')).toBe('')
  })
})
