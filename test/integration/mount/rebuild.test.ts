import { copyFileSync, globSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { EmbeddedDirectory } from '../../support/embedded-directory.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'

describeMounted('a state directory made from a store that has lost something', () => {
  let ferry: Ferry
  let identity: string[]
  let before: Awaited<ReturnType<Ferry['call']['snapshot']>>

  beforeEach(async () => {
    ferry = new Ferry()
    for (const name of ['kept', 'lost']) {
      mkdirSync(ferry.under(name))
      for (let n = 0; n < 3; n += 1) writeFileSync(join(ferry.under(name), `f${n}`), `${name} ${n}`)
    }
    const store = `embedded:${ferry.root}/store`
    await ferry.mount('--mode', 'drain', '--store', store, '--namespace', 'tree')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    await ferry.settled()
    before = await ferry.call.snapshot(ferry.target)
    const { ino } = await ferry.call.lstat(ferry.at('lost'))
    await ferry.unmount()
    rmSync(ferry.stateDir, { recursive: true })
    lose((key) => key === 'kept/f1', 1)
    lose((key) => key.startsWith(`${ino.toString(16)}-`), 3)
    identity = ['--store', store, '--namespace', 'tree', '--state-dir', join(ferry.root, 'new')]
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Takes objects out of the store, as a disk that lost them would. */
  function lose(isIt: (key: string) => boolean, space: number): void {
    new EmbeddedDirectory(`${ferry.root}/store/tree`).withIndex((index) => {
      const rows = index.prepare('SELECT key FROM record WHERE space = ?').all(space)
      const keys = rows.map(({ key }) => String(key)).filter((key) => isIt(decodeURIComponent(key)))
      expect(keys).not.toEqual([])
      for (const key of keys) index.prepare('DELETE FROM record WHERE space = ? AND key = ?').run(space, key)
    })
  }

  const mount = (): Promise<string> => ferry.done('mount', ferry.source, ferry.target, ...identity)

  test('P1, P5: shows the rest as it was and what is lost as errors, listed by status, verify and restore', async () => {
    const { status, stdout } = await ferry.ferryfs('rebuild', ...identity)
    expect(status).toBe(3)
    expect(stdout).toMatch(/^lost {6}kept\/f1: object kept\/f1 is not in the store$/m)
    expect(stdout).toMatch(/^lost {6}lost: the directory's record is lost: /m)
    expect(readdirSync(join(ferry.root, 'new')).filter((name) => name.startsWith('rebuild'))).toEqual([])
    await mount()
    expect((await ferry.call.names(ferry.target)).sort()).toEqual(['kept', 'lost'])
    expect((await ferry.call.names(ferry.at('kept'))).sort()).toEqual(['f0', 'f1', 'f2'])
    for (const name of ['kept/f1', 'lost'])
      await expect(ferry.call.lstat(ferry.at(name))).rejects.toThrow(/EIO/)
    expect((await ferry.call.readFile(ferry.at('kept/f2'))).toString()).toBe('kept 2')
    const report = JSON.parse(await ferry.done('status', ferry.target, '--json'))
    expect(report.failures.map(({ path }: { path: string }) => path).sort()).toEqual(['kept/f1', 'lost'])
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.status).toBe(3)
    expect(verified.stdout).toMatch(/kept\/f1[\s\S]*lost|lost[\s\S]*kept\/f1/)
    const restored = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
    expect(restored.status).toBe(3)
    expect(restored.stdout).toMatch(/^missing {2}kept\/f1: .*is not in the store$/m)
    await ferry.unmount()
  })

  test('P5: with --accept-losses goes on without them, and the next rebuild finds nothing to list', async () => {
    const { status, stdout } = await ferry.ferryfs('rebuild', '--accept-losses', ...identity)
    expect(status, stdout).toBe(3)
    expect(stdout).toMatch(/^left out {2}kept\/f1: /m)
    await mount()
    const shown = await ferry.call.snapshot(ferry.target)
    const changed = compareTrees(before, shown).filter((line) => !/kept\/f1|lost/.test(line))
    expect(changed).toEqual([])
    expect((await ferry.call.names(ferry.target)).sort()).toEqual(['kept'])
    await ferry.settled()
    expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(0)
    await ferry.unmount()
    const again = identity.with(-1, join(ferry.root, 'again'))
    expect(await ferry.done('rebuild', ...again)).toMatch(/^rebuilt 2 files in 2 directories/)
  })
})

describeMounted('an embedded store whose index was put back to an older copy', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test('P2: a store that is mistyped is not made by rebuild, and another namespace of one is not begun', async () => {
    const store = join(ferry.root, 'store')
    await ferry.mount('--store', `embedded:${store}`, '--namespace', 'tree')
    await ferry.unmount()
    const before = readdirSync(ferry.root).sort()
    const stateDir = ['--state-dir', join(ferry.root, 'new')]
    for (const [path, namespace] of [
      [`${store}-mistyped`, 'tree'],
      [store, 'mistyped'],
    ] as const) {
      const { status, stderr } = await ferry.ferryfs(
        ...['rebuild', '--store', `embedded:${path}`, '--namespace', namespace, ...stateDir],
      )
      expect(status).toBe(4)
      expect(stderr).toMatch(/^ferryfs: there is no embedded store in [^\n]+\n$/)
    }
    rmSync(join(ferry.root, 'new'), { recursive: true })
    expect(readdirSync(ferry.root).sort()).toEqual(before)
    expect(readdirSync(store)).toEqual(['tree'])
  })

  test('P1, P5: rebuild and restore --store say in a line that the tree may be older, and end with 3', async () => {
    writeFileSync(ferry.under('changed'), 'first')
    const url = `embedded:${ferry.root}/store`
    const { index } = new EmbeddedDirectory(`${ferry.root}/store/tree`)
    const copy = join(ferry.root, 'index-copy')
    const identity = ['--store', url, '--namespace', 'tree']
    await ferry.mount('--mode', 'drain', ...identity)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    copyFileSync(index, copy)
    await ferry.mount(...identity)
    await ferry.call.writeFile(ferry.at('changed'), 'second')
    await ferry.call.writeFile(ferry.at('made since'), Buffer.alloc(100_000, 'since '))
    await ferry.settled()
    await ferry.unmount()
    copyFileSync(copy, index)
    rmSync(ferry.stateDir, { recursive: true })

    const line = new RegExp(
      `\\. *: the index ${index} of the store is damaged: .*, are not what was written; ` +
        'what it has may be older than what was stored, and some of it missing: restore the store from a backup, and do this again$',
      'm',
    )
    const dest = join(ferry.root, 'back')
    const restored = await ferry.ferryfs('restore', ...identity, dest)
    expect(restored.stdout).toMatch(line)
    expect(restored.stdout).toMatch(/^older {4}\./m)
    expect(restored.status).toBe(3)
    const rebuilt = await ferry.ferryfs('rebuild', ...identity, '--state-dir', join(ferry.root, 'new'))
    expect(rebuilt.stdout).toMatch(line)
    expect(rebuilt.stdout).toMatch(/^older {5}\./m)
    expect(rebuilt.status).toBe(3)
    await ferry.done('mount', ferry.source, ferry.target, '--state-dir', join(ferry.root, 'new'), ...identity)
    expect((await ferry.status()).failures).toContainEqual({
      path: '.',
      reason: expect.stringMatching(`^the index ${index} of the store is damaged: `),
    })
    await ferry.unmount()
    // The index has been written to since: what is wrong with it is remembered.
    const again = await ferry.ferryfs('restore', ...identity, join(ferry.root, 'back again'))
    expect(again.stdout).toMatch(/^older {4}\.: the index .* is damaged: /m)
    expect(again.status).toBe(3)
  })

  test.each([
    ['a large file was', 100_000],
    ['only small ones were', 10],
  ])(
    'P1, P5: the same, and verify, where all that is beside it came with it, and %s made since',
    async (_, size) => {
      writeFileSync(ferry.under('changed'), 'first')
      const directory = new EmbeddedDirectory(`${ferry.root}/store/tree`)
      const { index } = directory
      const identity = ['--store', `embedded:${ferry.root}/store`, '--namespace', 'tree']
      await ferry.mount('--mode', 'drain', ...identity)
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.unmount()
      const copy = join(ferry.root, 'index-copy')
      mkdirSync(copy)
      for (const path of globSync(`${index}*`)) copyFileSync(path, join(copy, basename(path)))
      await ferry.mount(...identity)
      await ferry.call.writeFile(ferry.at('changed'), 'second')
      await ferry.call.writeFile(ferry.at('made since'), Buffer.alloc(size, 'since '))
      await ferry.settled()
      await ferry.unmount()
      const values = await directory.files()
      for (const path of globSync(`${index}*`)) rmSync(path)
      for (const name of readdirSync(copy)) copyFileSync(join(copy, name), join(index, '..', name))
      rmSync(ferry.stateDir, { recursive: true })

      const line = /\. *: the index .* of the store is damaged: it is an older copy, .*, and do this again$/m
      const restored = await ferry.ferryfs('restore', ...identity, join(ferry.root, 'back'))
      expect(restored.stdout).toMatch(line)
      expect(restored.status).toBe(3)
      const rebuilt = await ferry.ferryfs('rebuild', ...identity, '--state-dir', join(ferry.root, 'new'))
      expect(rebuilt.stdout).toMatch(line)
      expect(rebuilt.status).toBe(3)
      await ferry.done(
        'mount',
        ferry.source,
        ferry.target,
        '--state-dir',
        join(ferry.root, 'new'),
        ...identity,
      )
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect(verified.stdout).toMatch(/the index .* of the store is damaged: it is an older copy, /)
      expect(verified.status).toBe(3)
      await ferry.unmount()
      expect(await directory.files()).toEqual(expect.arrayContaining(values))
    },
  )
})
