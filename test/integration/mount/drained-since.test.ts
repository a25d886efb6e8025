import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const FILES = ['top', 'a/f', 'a/b/g', 'a/b/c/h']
const MODES = { a: 0o751, 'a/b': 0o2750, 'a/b/c': 0o1777 } as const

describeMounted('a state directory that is put back, with the drain gone on since', () => {
  let ferry: Ferry
  let copy: string

  beforeEach(() => {
    ferry = new Ferry()
    copy = join(ferry.root, 'copy')
    mkdirSync(ferry.under('a/b/c'), { recursive: true })
    for (const path of FILES) writeFileSync(ferry.under(path), `content of ${path}`)
    for (const [path, mode] of Object.entries(MODES)) chmodSync(ferry.under(path), mode)
  })

  afterEach(() => ferry.clear())

  function expectAll(root: string): void {
    for (const path of FILES) expect(readFileSync(join(root, path), 'utf8')).toBe(`content of ${path}`)
    for (const [path, mode] of Object.entries(MODES))
      expect(statSync(join(root, path)).mode & 0o7777, path).toBe(mode)
  }

  test.each(['just after the drain began', 'before the drain, in mirror'])(
    'P2, P5: has all directories, and keeps them once the losses are accepted; restore writes all of it (copied %s)',
    async (when) => {
      const store = `embedded:${join(ferry.root, 'store')}`
      await ferry.mount('--mode', 'mirror', '--store', store)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.done('migrate', ferry.target, '--pause')
      const take = () => cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
      if (when.startsWith('before')) take()
      await ferry.done('mode', ferry.target, 'drain')
      if (!when.startsWith('before')) take()
      await ferry.done('migrate', ferry.target, '--resume')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.eventually('an empty volume', () => Promise.resolve(!existsSync(ferry.under('a'))))
      await ferry.unmount()
      renameSync(ferry.stateDir, join(ferry.root, 'newest'))
      cpSync(copy, ferry.stateDir, { recursive: true, preserveTimestamps: true })
      await ferry.mount('--store', store)
      expect(await ferry.status()).toMatchObject({ mode: 'drain' })
      expectAll(ferry.target)
      expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
      // Not as long as SOURCE lacks what is only in the store.
      expect((await ferry.ferryfs('mode', ferry.target, 'mirror')).status).not.toBe(0)
      await ferry.done('verify', '--accept-losses', ferry.target)
      await ferry.settled()
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      await ferry.mount('--store', store)
      expectAll(ferry.target)
      await ferry.done('verify', ferry.target)
      const back = join(ferry.root, 'back')
      await ferry.done('restore', ferry.target, back)
      expectAll(back)
    },
  )
})
