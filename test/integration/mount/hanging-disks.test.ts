import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { MODES } from '../../../src/base/modes.ts'
import { describeMounted, whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { ImageVolume, onImage, whyNoImage } from '../../support/volume/image-volume.ts'
import { WeakVolume } from '../../support/volume/weak-volume.ts'

const MKFS = ['mkfs.ext4', '-q', '-F'] as const
const LARGE = pattern(3_000_000, 1)
const CHUNKS = 40
const reason = whyNoMount() ?? whyNoImage(MKFS)

/** Both hang until the test lets them go on: what is answered before that has not waited for them. */
describe.skipIf(reason !== undefined)('a volume that is frozen', () => {
  let ferry: Ferry
  let volume: ImageVolume

  beforeEach(() => {
    const made = (one: ImageVolume): void => {
      volume = one
    }
    ferry = new Ferry({ surroundings: onImage(MKFS, made) })
    writeFileSync(ferry.under('large'), LARGE)
    writeFileSync(ferry.under('small'), 'small')
  })

  afterEach(async () => {
    volume.thaw()
    await ferry.clear()
  })

  const append = (path: string): Promise<string> => ferry.run('sh', '-c', `echo more >>${ferry.at(path)}`)

  /** Resolves once the daemon knows that the volume hangs. */
  const noticed = (): Promise<void> =>
    ferry.eventually('the log to say so', async () => ferry.log.includes('volume does not answer'))

  test.each(['observe', 'mirror'])(
    'P6: %s: a change waits for it, status does not, and nobody sees an error',
    async (mode) => {
      await ferry.mount('--mode', mode)
      await ferry.migrate().catch(() => undefined)
      const { workerStarts } = await ferry.status()
      volume.freeze()
      const changes = [append('small'), ferry.run('mkdir', ferry.at('made'))]
      for (const change of changes) change.catch(() => undefined)
      await noticed()
      expect((await ferry.status()).workerStarts).toBe(workerStarts)
      volume.thaw()
      await Promise.all(changes)
      expect(readFileSync(ferry.under('small'), 'utf8')).toBe('smallmore\n')
      expect(await ferry.run('ls', ferry.target)).toBe('large\nmade\nsmall\n')
      if (mode === 'mirror') await ferry.settled()
    },
  )

  test('P6: prefer-store: the store is read, changes end with EIO, and take place once when the volume answers', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await ferry.migrate()
    await ferry.settled()
    volume.freeze()
    const making = ferry.run('mkdir', ferry.at('made'))
    making.catch(() => undefined)
    await noticed()
    expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
    expect((await ferry.readAnew('small')).toString()).toBe('small')
    await ferry.status()
    await expect(making).rejects.toThrow('Input/output error')
    await expect(append('large')).rejects.toThrow('Input/output error')
    expect((await ferry.readAnew('small')).toString()).toBe('small')
    volume.thaw()
    await ferry.eventually('the volume to be used again', () =>
      append('large').then(
        () => true,
        () => false,
      ),
    )
    expect(await ferry.run('ls', ferry.target)).toBe('large\nmade\nsmall\n')
    await ferry.settled()
    await ferry.done('verify', ferry.target)
  })

  test('P6: drain: everything is served, and what was to be removed is removed later', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await ferry.migrate()
    await ferry.settled()
    await ferry.mode('drain')
    volume.freeze()
    expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
    await append('small')
    await ferry.run('mkdir', ferry.at('made'))
    expect(await ferry.run('ls', ferry.target)).toBe('large\nmade\nsmall\n')
    await ferry.status()
    volume.thaw()
    expect((await ferry.migrate()).remaining).toBe(0)
    await ferry.settled()
    await ferry.eventually('the volume to be empty', async () => (await ferry.run('ls', ferry.source)) === '')
    expect((await ferry.readAnew('small')).toString()).toBe('smallmore\n')
  })
})

describe.skipIf(reason !== undefined)('a state disk that is frozen', () => {
  let ferry: Ferry
  let disk: ImageVolume

  beforeEach(() => {
    ferry = new Ferry({
      surroundings: (root) => {
        disk = new ImageVolume(join(root, 'image'), join(root, 'disk'), MKFS)
        return {
          source: join(root, 'source'),
          target: join(root, 'target'),
          stateDir: join(root, 'disk/state'),
          line: (command, args) => [command, [...args]],
          remove: () => disk.remove(),
        }
      },
    })
    writeFileSync(ferry.under('small'), 'small')
  })

  afterEach(async () => {
    disk.thaw()
    await ferry.clear()
  })

  test.each(gateShare(MODES, 2, 1))(
    'P6: %s: what needs nothing of it goes on, changes wait and end with EIO, and all is as before when it answers',
    async (mode) => {
      writeFileSync(ferry.under('large'), LARGE)
      for (let nth = 0; nth < CHUNKS; nth += 1)
        writeFileSync(ferry.under(`chunk${nth}`), pattern(1_000_000, nth))
      const first = mode === 'store-only' ? 'drain' : mode
      await ferry.mount('--mode', first, '--store', `embedded:${ferry.root}/store`)
      if (mode !== 'observe') {
        await ferry.migrate()
        await ferry.settled()
      }
      if (mode !== first) await ferry.mode(mode)
      const { workerStarts } = await ferry.status()
      disk.freeze()
      let ended = false
      const over = (): void => {
        ended = true
      }
      const making = ferry.run('mkdir', ferry.at('made'))
      const appending = ferry.run('sh', '-c', `echo more >>${ferry.at('small')}`)
      making.then(over, over)
      appending.catch(() => undefined)
      // More of them than threads that could wait for a place on that disk; and as long as the changes wait.
      for (let nth = 0; nth < CHUNKS || !ended; nth += 1) {
        const index = nth % CHUNKS
        expect((await ferry.readAnew(`chunk${index}`)).equals(pattern(1_000_000, index))).toBe(true)
        expect(await ferry.run('ls', '-l', ferry.target)).toContain('large')
      }
      const report = await ferry.status()
      expect(report.workerStarts).toBe(workerStarts)
      expect(report.stateDiskAnswers).toBe(false)
      await expect(making).rejects.toThrow('Input/output error')
      await expect(appending).rejects.toThrow('I/O error')
      expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
      disk.thaw()
      await ferry.run('mkdir', ferry.at('made'))
      await ferry.run('sh', '-c', `echo more >>${ferry.at('small')}`)
      expect((await ferry.readAnew('small')).toString()).toBe('smallmore\n')
      if (mode === 'observe') return
      await ferry.settled()
      await ferry.done('verify', ferry.target)
    },
    120_000,
  )

  test('P6: files that nobody has looked at yet are shown as well, and known afterwards', async () => {
    await ferry.mount('--mode', 'mirror', '--store', `embedded:${ferry.root}/store`)
    await ferry.status()
    mkdirSync(ferry.under('dir'))
    writeFileSync(ferry.under('dir/new'), 'new')
    disk.freeze()
    expect(await ferry.run('ls', '-l', ferry.at('dir'))).toContain('new')
    expect((await ferry.readAnew('dir/new')).toString()).toBe('new')
    const { ino } = await ferry.call.stat(ferry.at('dir/new'))
    disk.thaw()
    await ferry.migrate()
    await ferry.settled()
    expect((await ferry.call.stat(ferry.at('dir/new'))).ino).toBe(ino)
    await ferry.remount('--mode', 'prefer-store', '--store', `embedded:${ferry.root}/store`)
    expect((await ferry.readAnew('dir/new')).toString()).toBe('new')
  })

  test('P6: status and unmount say so, and everybody goes on when it does', async () => {
    await ferry.mount('--mode', 'drain', '--store', `embedded:${ferry.root}/store`)
    disk.freeze()
    expect((await ferry.ferryfs('status', ferry.target)).stdout).toMatch(
      /the disk of the state directory does not answer/,
    )
    const { status, stderr } = await ferry.ferryfs('unmount', ferry.target)
    expect(status).toBe(1)
    expect(stderr).toMatch(/waiting for a disk for 5 s: the one with the state directory .*\/disk\/state/)
    disk.thaw()
    await ferry.run('mkdir', ferry.at('made'))
    expect((await ferry.status()).stateDiskAnswers).toBe(true)
    expect(await ferry.run('ls', ferry.target)).toBe('made\nsmall\n')
  })

  test('P6: unmount --force takes the mount off, and the next mount has all of it', async () => {
    await ferry.mount('--mode', 'drain', '--store', `embedded:${ferry.root}/store`)
    await ferry.run('mkdir', ferry.at('before'))
    disk.freeze()
    ferry.run('mkdir', ferry.at('made')).catch(() => undefined)
    const { status, stdout } = await ferry.ferryfs('unmount', '--force', ferry.target)
    expect(status).toBe(3)
    expect(stdout).toMatch(/is unmounted by force/)
    expect(await ferry.run('ls', ferry.target)).toBe('')
    disk.thaw()
    const settings = ['--mode', 'drain', '--store', `embedded:${ferry.root}/store`]
    await ferry.eventually('a mount', async () => (await ferry.tryMount(...settings)).status === 0)
    expect(await ferry.run('ls', ferry.target)).toMatch(/^before\n/)
  }, 200_000)
})

describeMounted('a volume whose server does not answer', () => {
  let ferry: Ferry
  let volume: WeakVolume

  beforeEach(async () => {
    ferry = new Ferry()
    mkdirSync(join(ferry.root, 'behind/dir'), { recursive: true })
    writeFileSync(join(ferry.root, 'behind/large'), LARGE)
    writeFileSync(join(ferry.root, 'behind/dir/small'), 'small')
    volume = new WeakVolume(join(ferry.root, 'behind'), ferry.source)
    await volume.start()
  })

  afterEach(async () => {
    volume.goOn()
    await volume.remove()
    await ferry.clear()
  })

  test('P6: the store is read in prefer-store, listings and attributes too, and all is as before when it answers', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await ferry.migrate()
    await ferry.settled()
    const { workerStarts } = await ferry.status()
    volume.hang()
    expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
    expect((await ferry.readAnew('dir/small')).toString()).toBe('small')
    expect(await ferry.run('ls', ferry.target, ferry.at('dir'))).toContain('small')
    expect((await ferry.status()).workerStarts).toBe(workerStarts)
    volume.goOn()
    await ferry.eventually('the volume to be used again', () =>
      ferry.run('stat', ferry.at('dir/small')).then(
        () => true,
        () => false,
      ),
    )
    await ferry.run('sh', '-c', `echo new >${ferry.at('new')}`)
    expect(readFileSync(join(ferry.root, 'behind/new'), 'utf8')).toBe('new\n')
  })

  test('P6: in mirror a read waits for it, for as long as that is not long', async () => {
    await ferry.mount('--mode', 'mirror')
    volume.hang()
    const read = ferry.run('cat', ferry.at('dir/small'))
    await ferry.eventually('the log to say so', async () => ferry.log.includes('volume does not answer'))
    await ferry.status()
    volume.goOn()
    expect(await read).toBe('small')
  })
})

describe.skipIf(reason !== undefined)('a DEST that is frozen', () => {
  test('P6: restore waits alone, and is right when it can go on', async () => {
    const ferry = new Ferry()
    const disk = new ImageVolume(join(ferry.root, 'image'), join(ferry.root, 'disk'), MKFS)
    try {
      writeFileSync(ferry.under('large'), LARGE)
      await ferry.mount()
      await ferry.migrate()
      disk.freeze()
      const restore = ferry.done('restore', ferry.target, join(ferry.root, 'disk/back'))
      restore.catch(() => undefined)
      expect((await ferry.readAnew('large')).equals(LARGE)).toBe(true)
      writeFileSync(ferry.at('new'), 'new')
      await ferry.status()
      disk.thaw()
      await restore
      expect(readFileSync(join(ferry.root, 'disk/back/large')).equals(LARGE)).toBe(true)
    } finally {
      disk.remove()
      await ferry.clear()
    }
  })
})
