import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import {
  chmod,
  link,
  lstat,
  mkdir,
  readdir,
  rename,
  symlink,
  truncate,
  unlink,
  utimes,
} from 'node:fs/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const MiB = 1 << 20
const small = pattern(10_000, 1)
const large = pattern(2 * MiB + 333, 2)

describeMounted('copies of what is read', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
    writeFileSync(ferry.under('small'), small)
    writeFileSync(ferry.under('large'), large)
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const readBoth = async (): Promise<void> => {
    expect((await ferry.readAnew('small')).equals(small)).toBe(true)
    expect((await ferry.readAnew('large')).equals(large)).toBe(true)
  }

  test('P1: observe copies nothing, mirror what is read, and mirror goes on reading the legacy copy', async () => {
    await ferry.mount('--mode', 'observe')
    await readBoth()
    expect((await ferry.status()).files.stored).toBe(0)
    const refused = await ferry.ferryfs('migrate', ferry.target, '--wait')
    expect(refused).toMatchObject({ status: 3 })
    expect(refused.stderr).toMatch(/^ferryfs: mode observe copies nothing; .*\n$/)
    await ferry.mode('mirror')
    await readBoth()
    const { reads } = await ferry.until('both files stored', ({ files }) => files.stored >= 2)
    await readBoth()
    const after = await ferry.status()
    expect(after.reads.store).toBe(reads.store)
    expect(after.reads.legacy).toBeGreaterThan(reads.legacy)
  })

  test('P5: prefer-store reads from the store once it has the file, and keeps the legacy copy', async () => {
    await ferry.mount('--mode', 'prefer-store')
    await readBoth()
    await ferry.until('both files stored', ({ files }) => files.stored >= 2)
    await ferry.remount()
    await readBoth()
    const { reads } = await ferry.status()
    expect(reads.store).toBeGreaterThan(0)
    expect(reads.legacy).toBe(0)
    expect(readFileSync(ferry.under('small')).equals(small)).toBe(true)
    expect(readFileSync(ferry.under('large')).equals(large)).toBe(true)
  })

  test('P3: drain removes a file that was read once the store has it, and nothing that was not', async () => {
    writeFileSync(ferry.under('untouched'), 'nobody reads this')
    await ferry.mount('--mode', 'drain')
    await readBoth()
    await ferry.until('both legacy copies removed', ({ files }) => files.drained === 2)
    expect(await readdir(ferry.source)).toEqual(['untouched'])
    expect((await ferry.status()).files.stored).toBe(2)
    await ferry.remount()
    await readBoth()
    const { reads } = await ferry.status()
    expect(reads.store).toBeGreaterThan(0)
    expect(reads.legacy).toBe(0)
    const { stdout, status } = await ferry.ferryfs('verify', ferry.target, '--json')
    expect(status, stdout).toBe(0)
  })

  test('P1: inode numbers stay what they were when a file leaves the volume', async () => {
    const before = await lstat(ferry.under('large'), { bigint: true })
    await ferry.mount('--mode', 'drain')
    const fd = await ferry.call.open(ferry.at('large'), 0)
    expect((await ferry.call.fstat(fd)).ino).toBe(before.ino)
    await ferry.done('migrate', ferry.target, '--wait')
    expect(existsSync(ferry.under('large'))).toBe(false)
    expect((await ferry.call.fstat(fd)).ino).toBe(before.ino)
    expect(Buffer.from(await ferry.call.read(fd, 100, MiB)).equals(large.subarray(MiB, MiB + 100))).toBe(true)
    await ferry.call.close(fd)
    await ferry.remount()
    expect((await ferry.call.stat(ferry.at('large'))).ino).toBe(before.ino)
  })

  test.each(gateShare(['mirror', 'prefer-store', 'store-only', 'drain']))(
    'P5: --source-readonly touches nothing of the source in %s, whatever is done',
    async (mode) => {
      await mkdir(ferry.under('directory'))
      writeFileSync(ferry.under('directory/file'), 'in a directory')
      await symlink('file', ferry.under('directory/link'))
      await link(ferry.under('small'), ferry.under('second name'))
      const before = await everythingOf(ferry.source)
      const first = mode === 'store-only' ? 'drain' : mode
      await ferry.mount('--mode', first, '--source-readonly')
      if (mode === 'store-only') {
        await ferry.done('migrate', ferry.target, '--wait')
        await ferry.mode(mode)
      }
      const { call } = ferry
      await call.writeFile(ferry.at('small'), 'changed')
      expect((await call.readFile(ferry.at('second name'))).toString()).toBe('changed')
      await call.writeFile(ferry.at('directory/new'), 'new')
      await call.rename(ferry.at('directory'), ferry.at('moved'))
      await call.unlink(ferry.at('moved/link'))
      await call.chmod(ferry.at('large'), 0o600)
      await call.utimens(ferry.at('moved/file'), 1n, 2n)
      await call.mkdir(ferry.at('directory'))
      await call.unlink(ferry.at('second name'))
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      await ferry.remount('--source-readonly')
      expect((await call.names(ferry.target)).sort()).toEqual(['directory', 'large', 'moved', 'small'])
      expect((await call.names(ferry.at('moved'))).sort()).toEqual(['file', 'new'])
      expect(await call.names(ferry.at('directory'))).toEqual([])
      expect((await call.readFile(ferry.at('small'))).toString()).toBe('changed')
      expect((await ferry.readAnew('large')).equals(large)).toBe(true)
      expect(await everythingOf(ferry.source)).toEqual(before)
    },
  )

  test('P5: what was changed with --source-readonly is not on SOURCE, so no mode that writes there goes on from it', async () => {
    await ferry.mount('--mode', 'mirror', '--source-readonly')
    await ferry.call.writeFile(ferry.at('small'), 'changed')
    await ferry.unmount()
    for (const mode of [[], ['--mode', 'observe'], ['--mode', 'prefer-store']]) {
      const { status, stderr } = await ferry.tryMount(...mode)
      expect(status).toBe(2)
      expect(stderr).toMatch(
        /^ferryfs: SOURCE was served with --source-readonly, and 1 files or names are not on it[^\n]+\n$/,
      )
    }
    await ferry.mount('--source-readonly')
    expect((await ferry.call.readFile(ferry.at('small'))).toString()).toBe('changed')
    await ferry.remount('--mode', 'drain')
    expect((await ferry.call.readFile(ferry.at('small'))).toString()).toBe('changed')
  })

  test('P5: where nothing was changed it goes on from there', async () => {
    await ferry.mount('--mode', 'mirror', '--source-readonly')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.remount('--mode', 'mirror')
    await ferry.call.writeFile(ferry.at('small'), 'changed')
    expect(readFileSync(ferry.under('small'), 'utf8')).toBe('changed')
  })
})

describeMounted('a legacy volume that changes past the overlay', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const sees = (what: string, condition: () => Promise<boolean>): Promise<void> =>
    ferry.eventually(what, condition)
  const content = async (name: string): Promise<string> =>
    (await ferry.call.readFile(ferry.at(name))).toString()
  const absent = (name: string): Promise<boolean> =>
    ferry.call.lstat(ferry.at(name)).then(
      () => false,
      (error: unknown) => error instanceof Error && 'code' in error && error.code === 'ENOENT',
    )

  test.each(['mirror', 'prefer-store', 'drain'])(
    'P1: in %s it is seen and copied again: changed, replaced, removed, renamed, made',
    async (mode) => {
      const names = ['changed', 'replaced', 'removed', 'renamed', 'shortened']
      for (const name of names) writeFileSync(ferry.under(name), `${name}, as it was at first`)
      await mkdir(ferry.under('directory'))
      writeFileSync(ferry.under('directory/inside'), 'inside')
      await ferry.mount('--mode', mode === 'drain' ? 'prefer-store' : mode)
      await ferry.done('migrate', ferry.target, '--wait')
      for (const name of names) expect(await content(name)).toBe(`${name}, as it was at first`)
      writeFileSync(ferry.under('changed'), 'changed, by somebody else')
      writeFileSync(ferry.under('fresh'), 'replaced, by another file')
      await rename(ferry.under('fresh'), ferry.under('replaced'))
      await unlink(ferry.under('removed'))
      await rename(ferry.under('renamed'), ferry.under('directory/renamed'))
      await truncate(ferry.under('shortened'), 9)
      await chmod(ferry.under('directory/inside'), 0o604)
      await utimes(ferry.under('directory/inside'), 1000, 2000)
      writeFileSync(ferry.under('made'), 'made')
      if (mode === 'drain') await ferry.mode(mode)
      await sees('changed content', async () => (await content('changed')) === 'changed, by somebody else')
      await sees('the other file', async () => (await content('replaced')) === 'replaced, by another file')
      await sees('the removal', () => absent('removed'))
      await sees('the new name', async () => (await content('directory/renamed').catch(() => '')) !== '')
      await sees('the old name gone', () => absent('renamed'))
      expect(await content('directory/renamed')).toBe('renamed, as it was at first')
      await sees('the new size', async () => (await content('shortened')) === 'shortened')
      expect(await content('made')).toBe('made')
      await sees('attributes', async () => {
        const { mode: bits, mtimeNs } = await ferry.call.stat(ferry.at('directory/inside'))
        return (bits & 0o777) === 0o604 && mtimeNs === 2_000_000_000_000n
      })
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.settled()
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect(verified.status, verified.stdout).toBe(0)
      await ferry.mode('store-only')
      expect(await content('changed')).toBe('changed, by somebody else')
      expect(await content('replaced')).toBe('replaced, by another file')
      expect((await ferry.call.names(ferry.target)).sort()).toEqual([
        'changed',
        'directory',
        'made',
        'replaced',
        'shortened',
      ])
    },
  )
})

/** Everything that stat(2) says of each entry of a tree, but the access time, and its content. */
async function everythingOf(root: string): Promise<unknown[]> {
  const names = ['', ...(await readdir(root, { recursive: true }))].sort()
  return Promise.all(
    names.map(async (name) => {
      const path = `${root}/${name}`
      const { mode, uid, gid, ino, nlink, size, mtimeNs, ctimeNs } = await lstat(path, { bigint: true })
      const text = (mode & 0o170000n) === 0o100000n ? readFileSync(path, 'latin1') : ''
      return { name, mode, uid, gid, ino, nlink, size, mtimeNs, ctimeNs, text }
    }),
  )
}
