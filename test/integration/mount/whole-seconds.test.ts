import { statSync, utimesSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { onImage, whyNoImage } from '../../support/volume/image-volume.ts'

/** ext4 with 128-byte inodes, as ext2 and ext3 have them: times in whole seconds. */
const MKFS = ['mkfs.ext4', '-q', '-F', '-I', '128'] as const
const FILES = Array.from({ length: 20 }, (_, n) => `f${n}`)

const reason = whyNoMount() ?? whyNoImage(MKFS)

describe.skipIf(reason !== undefined)('a volume whose clock has whole seconds', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ surroundings: onImage(MKFS) })
  })

  afterEach(() => ferry.clear())

  const write = (text: string): void => {
    for (const name of FILES) writeFileSync(ferry.under(name), `${text} of ${name}`)
  }

  async function expectAll(text: string): Promise<void> {
    for (const name of FILES) expect((await ferry.readAnew(name)).toString(), name).toBe(`${text} of ${name}`)
  }

  /** Copied, as far as they will be, and changed past the overlay in one second, to the same size. */
  async function changeInTheSecondOfTheCopy(): Promise<void> {
    await ferry.eventually('the start of a second', () => Promise.resolve(Date.now() % 1000 < 100))
    const end = Math.ceil((Date.now() + 1) / 1000) * 1000
    write('mid')
    await expectAll('mid')
    await ferry.eventually('copies of all, or the end of the second', async () => {
      const { files } = await ferry.status()
      return files.stored >= FILES.length || Date.now() > end - 200
    })
    write('new')
  }

  test('P1: a change in the second in which a file was copied is seen, and verify finds nothing else', async () => {
    write('old')
    await ferry.mount('--mode', 'prefer-store')
    await changeInTheSecondOfTheCopy()
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await expectAll('new')
    await ferry.done('verify', ferry.target)
    await ferry.unmount()
  })

  test('P3: a file that was changed in the second in which it was copied is not removed before that is copied', async () => {
    write('old')
    await ferry.mount('--mode', 'prefer-store')
    await changeInTheSecondOfTheCopy()
    await ferry.mode('drain')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.eventually(
      'an empty volume',
      async () => (await ferry.status()).files.drained === FILES.length,
    )
    await expectAll('new')
    await ferry.unmount()
  })

  test('P1: a change in the second in which the mode was changed through the mount is seen, though the mtime is put back', async () => {
    write('old')
    await ferry.mount('--mode', 'prefer-store')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    const times = FILES.map((name) => statSync(ferry.under(name)))
    await ferry.eventually('the start of a second', () => Promise.resolve(Date.now() % 1000 < 100))
    for (const name of FILES) await ferry.call.chmod(ferry.at(name), 0o600)
    write('new')
    for (const [n, { atime, mtime }] of times.entries()) utimesSync(ferry.under(`f${n}`), atime, mtime)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await expectAll('new')
    await ferry.done('verify', ferry.target)
    await ferry.unmount()
  })
})

if (reason !== undefined) console.log(`a volume with whole seconds is not tried: ${reason}`)
