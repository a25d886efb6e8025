import { execFileSync } from 'node:child_process'
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

/*
 * The state directory of a drain is lost in which files with several names were changed, and directories renamed. What
 * can come in between is listed, and tried out, in test/unit/migration/source-merge.test.ts; here the same goes over
 * the command line.
 */
describeMounted('a state directory made from the store, where SOURCE has other names than the store', () => {
  let ferry: Ferry
  let identity: string[]

  beforeEach(async () => {
    ferry = new Ferry()
    for (const directory of ['a', 'b', 'old/sub', 'in'])
      mkdirSync(ferry.under(directory), { recursive: true })
    for (const name of ['a/f1', 'a/f2', 'b/untouched', 'old/seen', 'old/sub/unseen', 'old/unseen'])
      writeFileSync(ferry.under(name), `first ${name}`)
    linkSync(ferry.under('a/f1'), ferry.under('b/hard1'))
    linkSync(ferry.under('a/f2'), ferry.under('b/hard2'))
    identity = ['--store', `embedded:${ferry.root}/store`, '--namespace', 'tree']
    await ferry.mount('--mode', 'drain', ...identity)
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Returns what `rebuild` ends with. */
  async function lose(): Promise<{ status: number | null; stdout: string }> {
    await ferry.settled()
    await ferry.unmount()
    rmSync(ferry.stateDir, { recursive: true })
    const rebuilt = await ferry.ferryfs('rebuild', ...identity, '--state-dir', ferry.stateDir)
    await ferry.mount(...identity)
    return rebuilt
  }

  const shown = async (name: string): Promise<string> =>
    (await ferry.call.readFile(ferry.at(name))).toString()

  async function shows(tree: Record<string, string>): Promise<void> {
    for (const [name, content] of Object.entries(tree))
      expect([name, await shown(name)]).toEqual([name, content])
  }

  test('P1, P3, P5: every name has the later bytes, nothing is there twice, and the drain goes on to its end', async () => {
    await ferry.call.writeFile(ferry.at('a/f1'), 'second')
    await ferry.call.writeFile(ferry.at('old/seen'), 'second')
    await ferry.call.rename(ferry.at('old'), ferry.at('in/new'))
    const { status, stdout } = await lose()
    expect([status, stdout.split('\n').length]).toEqual([0, 2])
    const tree = {
      'a/f1': 'second',
      'b/hard1': 'second',
      'a/f2': 'first a/f2',
      'b/hard2': 'first a/f2',
      'b/untouched': 'first b/untouched',
      'in/new/seen': 'second',
      'in/new/unseen': 'first old/unseen',
      'in/new/sub/unseen': 'first old/sub/unseen',
    }
    await shows(tree)
    expect((await ferry.call.names(ferry.target)).sort()).toEqual(['a', 'b', 'in'])
    const [one, other] = [await ferry.call.stat(ferry.at('a/f1')), await ferry.call.stat(ferry.at('b/hard1'))]
    expect([one.ino, one.nlink]).toEqual([other.ino, 2])
    expect((await ferry.status()).failures).toEqual([])
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.done('verify', ferry.target)
    // What was copied has gone, and nothing that nobody can know to be a copy.
    expect(existsSync(ferry.under('old/unseen'))).toBe(false)
    expect(existsSync(ferry.under('b/hard2'))).toBe(false)
    expect(readFileSync(ferry.under('b/hard1'), 'utf8')).toBe('first a/f1')
    await ferry.done('mode', ferry.target, 'store-only', '--wait')
    await shows(tree)
    await ferry.done('restore', ferry.target, join(ferry.root, 'back'))
    for (const [name, content] of Object.entries(tree))
      expect([name, readFileSync(join(ferry.root, 'back', name), 'utf8')]).toEqual([name, content])
    await ferry.unmount()
  })

  test('P1, P2: a name that was removed after a change leaves the other one with what was written', async () => {
    await ferry.call.writeFile(ferry.at('a/f1'), 'second')
    await ferry.call.unlink(ferry.at('a/f1'))
    const { status, stdout } = await lose()
    expect(stdout).toMatch(/doubt +a\/f1: its record says that it went elsewhere/)
    expect(status).toBe(3)
    await shows({ 'b/hard1': 'second' })
    expect((await ferry.call.names(ferry.at('a'))).sort()).toEqual(['f2'])
    expect((await ferry.call.stat(ferry.at('b/hard1'))).nlink).toBe(1)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.done('verify', ferry.target)
    await ferry.unmount()
  })

  test('P1: on a disk that is mounted below SOURCE what may be there twice is listed', async () => {
    const disk = ferry.under('in')
    execFileSync('mount', ['-t', 'tmpfs', 'none', disk])
    try {
      mkdirSync(join(disk, 'old'))
      for (const name of ['seen', 'unseen']) writeFileSync(join(disk, 'old', name), `first ${name}`)
      await ferry.call.writeFile(ferry.at('in/old/seen'), 'second')
      await ferry.call.rename(ferry.at('in/old'), ferry.at('in/new'))
      await lose()
      await shows({ 'in/new/seen': 'second' })
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect([verified.status, verified.stdout]).toEqual([
        3,
        expect.stringMatching(/or such as files had lost.*: in; compare/),
      ])
      expect(ferry.log).toMatch(/some may be former names of files or directories/)
      await ferry.unmount()
    } finally {
      execFileSync('umount', ['-l', disk])
    }
  })

  test('P1: names that nobody can tell from such as were lost are listed until that is accepted', async () => {
    await ferry.call.writeFile(ferry.at('a/f1'), 'second')
    await ferry.call.rename(ferry.at('a/f1'), ferry.at('a/other'))
    expect((await lose()).status).toBe(0)
    await shows({ 'a/other': 'second', 'a/f1': 'second', 'b/hard1': 'second' })
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.stdout).toMatch(
      /2 of its names may be older than what SOURCE .* has there, or such as files had lost; /,
    )
    expect(verified.status).toBe(3)
    expect(ferry.log).toMatch(/nobody can tell which/)
    await ferry.call.unlink(ferry.at('a/f1'))
    await ferry.done('verify', '--accept-losses', ferry.target)
    await ferry.done('migrate', ferry.target, '--wait')
    await shows({ 'a/other': 'second', 'b/hard1': 'second' })
    expect((await ferry.call.stat(ferry.at('a/other'))).nlink).toBe(2)
    await ferry.unmount()
  })
})
