import { chmodSync, copyFileSync, mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

const USER = { uid: 12_345, gid: 12_345 }

describeMounted('options of mount(8)', () => {
  let ferry: Ferry
  let volume: string

  beforeEach(() => {
    ferry = new Ferry()
    volume = ''
  })

  afterEach(async () => {
    // The daemon of a test that failed may still use it.
    if (volume !== '') await ferry.run('umount', '-l', volume).catch(() => '')
    await ferry.clear()
  })

  const flags = (): readonly string[] => mountsOf(ferry.target).at(-1)?.flags ?? []

  /** SOURCE on a tmpfs of its own, with these options. */
  async function onVolume(options: string): Promise<void> {
    await ferry.run('mount', '-t', 'tmpfs', '-o', options, 'none', ferry.source)
    volume = ferry.source
    chmodSync(ferry.source, 0o755)
  }

  /** A set-user-id program, a device and a script. */
  async function temptations(): Promise<void> {
    copyFileSync('/usr/bin/id', ferry.under('sid'))
    chmodSync(ferry.under('sid'), 0o4755)
    await ferry.run('mknod', '-m', '666', ferry.under('zero'), 'c', '1', '5')
  }

  const asUser = (...command: string[]): Promise<string> =>
    ferry.run('setpriv', `--reuid=${USER.uid}`, `--regid=${USER.gid}`, '--clear-groups', ...command)

  test('those of SOURCE are in force at TARGET, in any mode and after SOURCE was detached', async () => {
    await onVolume('nosuid,nodev,noexec,noatime')
    await temptations()
    await ferry.mount('--mode', 'drain')
    const refused = async (): Promise<void> => {
      expect(flags()).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'noexec', 'noatime']))
      await expect(asUser(ferry.at('sid'))).rejects.toThrow(/[Pp]ermission denied/)
      await expect(asUser('head', '-c', '1', ferry.at('zero'))).rejects.toThrow(/Permission denied/)
    }
    await refused()
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    await refused()
    await ferry.eventually('the volume to be let go', () =>
      ferry.run('umount', volume).then(
        () => true,
        () => false,
      ),
    )
    volume = ''
    await ferry.remount()
    await refused()
  })

  test('nosuid alone: the program runs, as the user', async () => {
    await onVolume('nosuid')
    await temptations()
    await ferry.mount()
    expect(await asUser(ferry.at('sid'), '-u')).toBe(`${USER.uid}\n`)
  })

  test('a SOURCE that cannot be written is a TARGET that cannot; with --source-readonly changes go elsewhere', async () => {
    writeFileSync(ferry.under('file'), 'content')
    await ferry.run('mount', '--bind', ferry.source, ferry.source)
    volume = ferry.source
    await ferry.run('mount', '-o', 'remount,bind,ro', ferry.source)
    await ferry.mount()
    expect(flags()).toContain('ro')
    await expect(ferry.call.writeFile(ferry.at('new'), 'x')).rejects.toThrow(/EROFS/)
    await ferry.unmount()
    await ferry.mount('--source-readonly')
    await ferry.call.writeFile(ferry.at('new'), 'x')
    expect(flags()).not.toContain('ro')
  })

  test('--options adds to them, is remembered, and takes nothing back', async () => {
    await onVolume('nosuid')
    await ferry.mount('--options', 'nodev,ro')
    expect(flags()).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'ro']))
    await ferry.unmount()
    await ferry.done('mount', ferry.target)
    expect(flags()).toEqual(expect.arrayContaining(['nosuid', 'nodev', 'ro']))
    await ferry.unmount()
    const refused = await ferry.tryMount('--options', 'suid')
    expect(refused).toMatchObject({
      status: 2,
      stderr: expect.stringMatching(/--options is "suid"; allowed/),
    })
  })

  test('with --options noatime a read through the mount moves no access time on the volume', async () => {
    await onVolume('strictatime')
    const old = new Date('2001-02-03T04:05:06Z')
    const files = ['read', 'list/inner']
    mkdirSync(ferry.under('list'))
    for (const name of files) writeFileSync(ferry.under(name), 'content')
    const paths = [...files, 'list'].map(ferry.under.bind(ferry))
    for (const path of paths) utimesSync(path, old, old)
    await ferry.mount('--options', 'noatime', '--mode', 'observe')
    await ferry.run('cat', ...files.map((name) => ferry.at(name)))
    await ferry.run('ls', '-R', ferry.target)
    expect(paths.map((path) => statSync(path).atime)).toEqual(paths.map(() => old))
    // Without it they are moved, or this would show nothing.
    await ferry.remount('--options', 'nosuid')
    await ferry.run('cat', ...files.map((name) => ferry.at(name)))
    expect(statSync(ferry.under('read')).atime).not.toEqual(old)
  })

  test('mount -o remount changes them, also where a helper of mount(8) is asked', async () => {
    writeFileSync(ferry.under('file'), 'content')
    await ferry.mount()
    await ferry.run('mount', '-i', '-o', 'remount,nosuid,ro', ferry.target)
    expect(flags()).toEqual(expect.arrayContaining(['nosuid', 'ro']))
    await expect(ferry.call.writeFile(ferry.at('file'), 'x')).rejects.toThrow(/EROFS/)
    await ferry.run('mount', '-i', '-o', 'remount,rw', ferry.target)
    await ferry.call.writeFile(ferry.at('file'), 'written')
    // As with the package fuse: its helper looks for a program named ferryfs. In a namespace of its own, with one.
    const bin = join(ferry.root, 'bin')
    mkdirSync(bin)
    const [command, line] = ferry.line()
    const quoted = [command, ...line].map((word) => `'${word}'`).join(' ')
    writeFileSync(join(bin, 'ferryfs'), `#!/bin/sh\nexec ${quoted} "$@"\n`)
    chmodSync(join(bin, 'ferryfs'), 0o755)
    const script = `
      mount --bind "$1" /usr/local/bin
      mount -o remount,noexec,nodev "$2"
      grep " $2 " /proc/self/mountinfo`
    const seen = await ferry.run('unshare', '--mount', 'sh', '-euc', script, 'sh', bin, ferry.target)
    expect(seen).toMatch(/ rw,nosuid,nodev,noexec,relatime /)
    expect((await ferry.status()).workerStarts).toBe(1)
  })

  test('a mount that has to be made anew has them again', async () => {
    await ferry.mount('--transport', 'fuse-native', '--options', 'nosuid').catch(() => undefined)
    if (flags().length === 0) return console.log('not tried: fuse-native does not mount here')
    expect(flags()).toContain('nosuid')
    await ferry.killWorker()
    await ferry.eventually('the next mount', async () => flags().includes('nosuid'))
  })
})
