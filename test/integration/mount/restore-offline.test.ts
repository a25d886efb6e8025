import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { changeDatabase } from '../../support/change-database.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { compareTrees } from '../../support/posix/compare-trees.ts'

describeMounted('restore without a daemon', () => {
  let ferry: Ferry
  let dest: string

  beforeEach(async () => {
    ferry = new Ferry({ faults: true })
    dest = join(ferry.root, 'back')
    mkdirSync(ferry.under('directory/below'), { recursive: true })
    for (let n = 0; n < 10; n += 1) writeFileSync(ferry.under(`directory/file-${n}`), pattern(3000, n))
    writeFileSync(ferry.under('directory/below/large'), pattern(2_500_000, 99))
    await ferry.call.link(ferry.under('directory/file-3'), ferry.under('second name'))
    await ferry.call.symlink('directory', ferry.under('link'))
    await ferry.call.setxattr(ferry.under('second name'), 'user.colour', 'blue')
    await ferry.call.chmod(ferry.source, 0o751)
    await ferry.mount('--mode', 'drain', '--namespace', 'tree')
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const restore = (...line: string[]) => ferry.ferryfs('restore', ...line)
  const fromState = (...more: string[]) => restore('--state-dir', ferry.stateDir, dest, ...more)
  const fromStore = (...more: string[]) =>
    restore('--store', `embedded:${ferry.stateDir}/store`, '--namespace', 'tree', dest, ...more)

  /** Supervisor and worker die, and what they had mounted goes. */
  async function die(): Promise<void> {
    await ferry.killBoth()
    await unmountKernel(ferry.target, { lazy: true })
  }

  /** Sums of all files below, but for what SQLite makes anew for whoever reads. */
  function sums(directory: string): Map<string, string> {
    const found = new Map<string, string>()
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || /(-shm|-journal)$/.test(entry.name)) continue
      const path = join(entry.parentPath, entry.name)
      if (entry.name.endsWith('-wal') && statSync(path).size === 0) continue
      found.set(path, createHash('sha256').update(readFileSync(path)).digest('hex'))
    }
    return found
  }

  test('P5: from its state directory: what is stored, staged and still on the volume; nothing there changes', async () => {
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.call.writeFile(ferry.at('directory/file-1'), 'changed, and not stored when it died')
    await ferry.call.rename(ferry.at('directory/below'), ferry.at('moved'))
    // Nobody has looked at this one through the mount.
    writeFileSync(ferry.under('past the overlay'), 'on the volume alone')
    const before = await ferry.call.snapshot(ferry.target)
    await die()
    const [state, source] = [sums(ferry.stateDir), sums(ferry.source)]
    const { status, stdout, stderr } = await fromState()
    expect(status, stdout + stderr).toBe(0)
    expect(compareTrees(before, await ferry.call.snapshot(dest))).toEqual([])
    expect(sums(ferry.stateDir)).toEqual(state)
    expect(sums(ferry.source)).toEqual(source)
    // And the next mount goes on.
    await ferry.mount('--namespace', 'tree')
    expect(compareTrees(before, await ferry.call.snapshot(ferry.target))).toEqual([])
  })

  test('P5: from the store alone, a part of it too; the namespace stays whose it is', async () => {
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    const before = await ferry.call.snapshot(ferry.target)
    await ferry.unmount()
    const state = sums(ferry.stateDir)
    const { status, stdout, stderr } = await fromStore()
    expect(status, stdout + stderr).toBe(0)
    expect(compareTrees(before, await ferry.call.snapshot(dest))).toEqual([])
    dest = join(ferry.root, 'part')
    expect((await fromStore('directory/below', 'link')).status).toBe(0)
    expect(readdirSync(dest).sort()).toEqual(['directory', 'link'])
    expect(readdirSync(join(dest, 'directory'))).toEqual(['below'])
    expect(readdirSync(join(dest, 'directory/below'))).toEqual(['large'])
    for (const from of [fromStore, fromState]) {
      dest = join(ferry.root, from.name)
      const through = await from('link/file-1')
      expect(through.status).toBe(3)
      expect(through.stdout).toMatch(/^missing +link\/file-1: link is a symlink, to /m)
      expect(readdirSync(dest)).toEqual(['.ferryfs-restore'])
    }
    expect(sums(ferry.stateDir)).toEqual(state)
    await ferry.mount('--namespace', 'tree')
  })

  test('P1: what the store has lost is told of and not made up, and DEST stays closed', async () => {
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.unmount()
    changeDatabase(join(ferry.stateDir, 'store/tree/index.sqlite'), (index) =>
      index.exec("DELETE FROM record WHERE key IN ('directory/file-5', 'directory/file-6')"),
    )
    for (const run of [fromStore, fromState]) {
      const { status, stdout } = await run()
      expect(status, stdout).toBe(3)
      for (const n of [5, 6]) expect(stdout).toContain(`missing  directory/file-${n}: `)
      expect(readdirSync(join(dest, 'directory')).sort()).toEqual(
        ['below', ...[0, 1, 2, 3, 4, 7, 8, 9].map((n) => `file-${n}`)].sort(),
      )
      expect(statSync(dest).mode & 0o7777).toBe(0o700)
    }
    expect((await fromState('--accept-missing')).status).toBe(3)
    expect(statSync(dest).mode & 0o7777).toBe(0o751)
  })

  test('P1: what was staged and is damaged is told of once, in words', async () => {
    ferry.arm('content.upload.claimed!')
    await ferry.call.writeFile(ferry.at('late'), 'nowhere else').catch(() => undefined)
    await ferry.eventually('supervisor and worker to be dead', async () => ferry.fired)
    await unmountKernel(ferry.target, { lazy: true })
    const staging = join(ferry.stateDir, 'staging')
    for (const name of readdirSync(staging)) writeFileSync(join(staging, name), '')
    const { status, stdout, stderr } = await fromState()
    expect(status, stdout + stderr).toBe(3)
    expect(stdout.match(/late/g)).toHaveLength(1)
    expect(stdout + stderr).not.toMatch(/^\{/m)
  })

  test('P1: after a power loss staged bytes that nobody had synced are not taken for what they were', async () => {
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    const fd = await ferry.call.open(ferry.at('directory/below/large'), 2)
    await ferry.call.write(fd, Buffer.from('not synced'), 100)
    await die()
    // What the disk may have got of it: nothing.
    const staging = join(ferry.stateDir, 'staging')
    for (const name of readdirSync(staging)) writeFileSync(join(staging, name), '')
    changeDatabase(join(ferry.stateDir, 'catalog.db'), (catalog) =>
      catalog.exec("UPDATE meta SET value = 'another' WHERE name = 'boot-id'"),
    )
    const { status, stdout, stderr } = await fromState()
    expect(status, stdout + stderr).toBe(0)
    const bytes = await ferry.call.readFile(join(dest, 'directory/below/large'))
    expect(bytes.equals(pattern(2_500_000, 99))).toBe(true)
  })

  test('P1: without the volume that it still needs, what is not in the store is missing', async () => {
    await ferry.mode('mirror')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.call.writeFile(ferry.at('directory/file-2'), pattern(3000, 2))
    await ferry.settled()
    await ferry.unmount()
    writeFileSync(ferry.under('new'), 'never seen')
    renameSync(ferry.source, `${ferry.source} away`)
    mkdirSync(ferry.source)
    const { status, stdout, stderr } = await fromState()
    expect(status, stdout + stderr).toBe(3)
    expect(stdout).toMatch(
      /^missing {2}\.: source .*: what is not in the store is missing, and the rest is as it was/m,
    )
    for (let n = 0; n < 10; n += 1)
      expect((await ferry.call.readFile(join(dest, `directory/file-${n}`))).equals(pattern(3000, n))).toBe(
        true,
      )
    expect(await ferry.call.readlink(join(dest, 'link'))).toEqual(Buffer.from('directory'))
    expect(await ferry.call.getxattr(join(dest, 'second name'), 'user.colour')).toEqual(Buffer.from('blue'))
  })

  test('a state directory in use, one that is none, a store that is not there: one line each, and nothing is made', async () => {
    const refused = async (said: RegExp, status: number, ...line: string[]): Promise<void> => {
      const ended = await restore(...line)
      expect(ended.stderr).toMatch(said)
      expect(ended.stderr.trim().split('\n')).toHaveLength(1)
      expect(ended.status).toBe(status)
    }
    const target = ferry.target
    const { stateDir, root } = ferry
    await refused(
      new RegExp(`held by a running ferryfs; "ferryfs restore ${target} DEST" reads through it`),
      2,
      '--state-dir',
      stateDir,
      dest,
    )
    const nowhere = join(root, 'nowhere')
    await refused(/is no state directory of ferryfs/, 2, '--state-dir', nowhere, dest)
    await refused(
      /there is no embedded store in/,
      4,
      '--store',
      `embedded:${nowhere}`,
      '--namespace',
      'tree',
      dest,
    )
    await refused(/go together/, 2, '--store', 'embedded:', dest)
    await refused(/give --state-dir alone/, 2, '--state-dir', stateDir, '--store', 'embedded:', dest)
    await refused(/DEST is missing/, 2, '--state-dir', stateDir)
    await refused(/TARGET or DEST is missing/, 2, target)
    await ferry.killBoth()
    await refused(/is gone .*"ferryfs restore --state-dir .* DEST" restores without it/, 1, target, dest)
    await unmountKernel(target, { lazy: true })
    await refused(/lie one in the other/, 2, '--state-dir', stateDir, join(ferry.source, 'in'))
    rmSync(join(stateDir, 'catalog.db'))
    await refused(/catalog.db is missing; "ferryfs restore --store URL/, 2, '--state-dir', stateDir, dest)
    expect(existsSync(nowhere)).toBe(false)
    expect(existsSync(dest)).toBe(false)
  })
})
