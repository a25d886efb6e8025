import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

/*
 * A state directory is lost, and made anew from the store. What can come in between, and what has to be so afterwards:
 *
 * 1. The drain was half done: what SOURCE alone has is in the tree, goes to the store with the next migration, and nothing calls SOURCE
 *    done before that.
 * 2. The mount that brings both together dies at any point of that: the next one does it (crash-points-daemon.test.ts).
 * 3. A file is in both: the store's is shown. It is removed or renamed through the mount: SOURCE's does not come out from below it,
 *    neither at once nor after the next mount; and the reaper does not remove what it cannot know to be a copy.
 * 4. A file is in both, and SOURCE's is the later one: listed by status, verify and restore, and nothing is removed until it is accepted.
 * 5. SOURCE was complete (mirror), and newer than the store: it is not hidden.
 * 6. SOURCE's disk was not mounted at the first mount: nothing is taken up beside the tree later, and the next mount looks again.
 * 7. SOURCE has another kind of file under the name: listed.
 */
describeMounted('a state directory made from the store, over a SOURCE that has more than the store', () => {
  let ferry: Ferry
  let identity: string[]
  const NAMES = ['d/f0', 'd/f1', 'd/f2', 'e/below/f0', 'e/below/f1', 'top']

  beforeEach(() => {
    ferry = new Ferry()
    mkdirSync(ferry.under('d'))
    mkdirSync(ferry.under('e/below'), { recursive: true })
    for (const name of NAMES) writeFileSync(ferry.under(name), `first ${name}`)
    identity = ['--store', `embedded:${ferry.root}/store`, '--namespace', 'tree']
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Served once, with two files in the store and the others never looked at; then the state directory is gone. */
  async function lost(...options: string[]): Promise<void> {
    await ferry.mount(...options, ...identity)
    for (const name of ['d/f0', 'd/f1']) await ferry.call.readFile(ferry.at(name))
    await ferry.until('two files in the store', ({ files }) => files.stored >= 2)
    await ferry.settled()
    await ferry.unmount()
    rmSync(ferry.stateDir, { recursive: true })
  }

  const rebuild = (): Promise<string> => ferry.done('rebuild', ...identity, '--state-dir', ferry.stateDir)
  const shown = async (name: string): Promise<string> =>
    (await ferry.call.readFile(ferry.at(name))).toString()

  async function showsFirst(names = NAMES): Promise<void> {
    for (const name of names) expect(await shown(name)).toBe(`first ${name}`)
  }

  async function drainsAll(): Promise<void> {
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.done('mode', ferry.target, 'store-only', '--wait')
    await showsFirst()
    await ferry.done('verify', ferry.target)
    await ferry.done('restore', ferry.target, join(ferry.root, 'back'))
    for (const name of NAMES)
      expect(readFileSync(join(ferry.root, 'back', name), 'utf8')).toBe(`first ${name}`)
  }

  test('P1, P5: half drained, all of it is shown, and the drain goes on to its end', async () => {
    await lost('--mode', 'drain')
    await rebuild()
    const { status, stderr } = await ferry.tryMount('--mode', 'store-only', ...identity)
    expect(stderr).toMatch(/mode store-only is refused: \d files are not in the store yet/)
    expect(status).not.toBe(0)
    await ferry.mount(...identity)
    expect((await ferry.status()).mode).toBe('drain')
    expect((await ferry.call.names(ferry.target)).sort()).toEqual(['d', 'e', 'top'])
    expect((await ferry.call.names(ferry.at('d'))).sort()).toEqual(['f0', 'f1', 'f2'])
    await showsFirst()
    expect((await ferry.ferryfs('mode', ferry.target, 'mirror')).status).not.toBe(0)
    await drainsAll()
    await ferry.unmount()
  })

  test('P1, P3: of a file in both the store has the newer; removed or renamed it stays so, and SOURCE keeps its own', async () => {
    await ferry.mount('--mode', 'drain', '--source-readonly', ...identity)
    await ferry.done('migrate', ferry.target, '--wait')
    for (const name of NAMES) await ferry.call.writeFile(ferry.at(name), `second ${name}`)
    await ferry.settled()
    await ferry.unmount()
    rmSync(ferry.stateDir, { recursive: true })
    await rebuild()
    await ferry.mount('--mode', 'drain', ...identity)
    for (const name of NAMES) expect(await shown(name)).toBe(`second ${name}`)
    expect((await ferry.status()).failures).toEqual([])
    await ferry.call.unlink(ferry.at('d/f0'))
    await ferry.call.rename(ferry.at('d/f1'), ferry.at('d/moved'))
    for (const name of ['f0', 'f1']) await ferry.call.unlink(ferry.at(`e/below/${name}`))
    await ferry.call.rmdir(ferry.at('e/below'))
    for (let round = 0; round < 2; round += 1) {
      expect((await ferry.call.names(ferry.at('d'))).sort()).toEqual(['f2', 'moved'])
      expect(await ferry.call.names(ferry.at('e'))).toEqual([])
      expect(await shown('d/moved')).toBe('second d/f1')
      await ferry.done('migrate', ferry.target, '--wait')
      await ferry.remount(...identity)
    }
    for (const name of NAMES) expect(readFileSync(ferry.under(name), 'utf8')).toBe(`first ${name}`)
    await ferry.unmount()
  })

  test('P1, P3, P5: what is later on SOURCE is listed until it is accepted, and nothing goes meanwhile', async () => {
    await lost('--mode', 'drain', '--source-readonly')
    writeFileSync(ferry.under('d/f0'), 'later than the store')
    rmSync(ferry.under('d/f1'))
    mkdirSync(ferry.under('d/f1'))
    writeFileSync(ferry.under('d/f1/below'), 'in a directory that was a file')
    await rebuild()
    await ferry.mount(...identity)
    const line = /2 of its names may be older than what SOURCE .* has there, .*: d\/f[01], d\/f[01]/
    const isListed = (failures: readonly { readonly reason: string }[]): boolean =>
      failures.some(({ reason }) => line.test(reason))
    expect(isListed((await ferry.status()).failures)).toBe(true)
    expect(ferry.log).toMatch(/SOURCE has a directory there, of which nothing is shown/)
    for (const command of [
      ['verify', ferry.target],
      ['restore', ferry.target, join(ferry.root, 'back')],
    ]) {
      const ended = await ferry.ferryfs(...command)
      expect(ended.stdout).toMatch(line)
      expect(ended.status).toBe(3)
    }
    await ferry.ferryfs('migrate', ferry.target, '--wait')
    expect(readFileSync(ferry.under('d/f2'), 'utf8')).toBe('first d/f2')
    await ferry.done('verify', '--accept-losses', ferry.target)
    await ferry.done('migrate', ferry.target, '--wait')
    expect(isListed((await ferry.status()).failures)).toBe(false)
    expect(existsSync(ferry.under('d/f2'))).toBe(false)
    expect(readFileSync(ferry.under('d/f0'), 'utf8')).toBe('later than the store')
    expect(existsSync(ferry.under('d/f1/below'))).toBe(true)
    await ferry.unmount()
  })

  test('P1, P5: a SOURCE that was complete is not hidden; the commands that the refusal names serve either', async () => {
    await lost('--mode', 'mirror')
    writeFileSync(ferry.under('d/f0'), 'later')
    await rebuild()
    for (const mode of [[], ['--mode', 'mirror'], ['--mode', 'drain']]) {
      const { status, stderr } = await ferry.tryMount(...mode, ...identity)
      expect(status).toBe(2)
      expect(stderr).toMatch(/^ferryfs: SOURCE .* has no mark of ferryfs, so it may be complete [^\n]*\n$/)
    }
    const { stderr } = await ferry.tryMount(...identity)
    const [anew = [], without = []] = Array.from(stderr.matchAll(/"ferryfs ([^"]+)"/g), ([, line = '']) =>
      line.split(' '),
    )
    await ferry.done(...anew)
    expect(await shown('d/f0')).toBe('later')
    await showsFirst(NAMES.slice(1))
    await ferry.unmount()
    const empty = join(ferry.root, 'empty')
    mkdirSync(empty)
    await ferry.done(...without.map((word) => (word === 'EMPTY-DIRECTORY' ? empty : word)))
    expect(await ferry.call.names(ferry.target)).toContain('d')
    expect(await shown('d/f0')).toBe('first d/f0')
    await ferry.unmount()
  })

  test('P1, P5: with --take-over the tree of the store is served, with what SOURCE alone has beside it', async () => {
    await lost('--mode', 'mirror')
    writeFileSync(ferry.under('d/f0'), 'later')
    await rebuild()
    await ferry.mount('--take-over', ...identity)
    await showsFirst()
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.stdout).toMatch(/1 of its names may be older than what SOURCE .* has there, .*: d\/f0;/)
    expect(verified.status).toBe(3)
    await ferry.unmount()
    expect(readFileSync(ferry.under('d/f0'), 'utf8')).toBe('later')
  })

  test('P1, P5: a SOURCE whose disk was not mounted is looked at by the next mount, and not taken up before', async () => {
    await lost('--mode', 'drain')
    await rebuild()
    const disk = join(ferry.root, 'disk')
    renameSync(ferry.source, disk)
    mkdirSync(ferry.source)
    await ferry.mount(...identity)
    expect((await ferry.status()).mode).toBe('store-only')
    rmdirSync(ferry.source)
    renameSync(disk, ferry.source)
    const refused = await ferry.ferryfs('mode', ferry.target, 'drain')
    expect(refused.stderr).toMatch(
      /was empty, or not there, when it was mounted, .*: unmount, and mount it again/,
    )
    expect(refused.status).not.toBe(0)
    await ferry.unmount()
    // It was another SOURCE that was mounted last.
    const { stderr } = await ferry.tryMount(...identity)
    expect(stderr).toMatch(/ is not complete by itself: .* --take-over/)
    await ferry.mount('--take-over', ...identity)
    await drainsAll()
    await ferry.unmount()
  })
})
