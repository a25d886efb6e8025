import { describe, expect, it } from 'vitest'
import { checkRemount } from '../../../src/cli/machine.ts'
import { helperCall, isRemount, mountArguments } from '../../../src/cli/mount-helper.ts'

/** As mount.fuse(8) calls the program. */
const call = (options: string) => {
  const found = helperCall(['/srv/data', '/mnt/data', '-o', options])
  if (!found) throw new Error('not understood as a call of mount(8)')
  return found
}

describe('ferryfs as a helper of mount(8)', () => {
  it('knows its call from what a person types', () => {
    expect(call('rw,nosuid')).toEqual({ source: '/srv/data', target: '/mnt/data', options: ['rw', 'nosuid'] })
    for (const typed of [
      ['mount', '/s', '/t', '--options', 'ro'],
      ['mount', '/s', '-o', 'ro'],
      ['/s', '/t'],
      ['/s', '/t', '-o'],
      [],
    ]) {
      expect(helperCall(typed)).toBeUndefined()
    }
  })

  it('a line of fstab is a mount with what it says', () => {
    const line =
      'rw,nosuid,noatime,store="riak://a:8087,b:8087/",state-dir=/state,source-readonly,nofail,_netdev,x-systemd.automount,dev'
    expect(mountArguments(call(line))).toEqual([
      ...['mount', '/srv/data', '/mnt/data', '--store', 'riak://a:8087,b:8087/', '--state-dir', '/state'],
      ...['--source-readonly', '--options', 'nosuid,noatime'],
    ])
    expect(mountArguments(call('defaults'))).toEqual(['mount', '/srv/data', '/mnt/data'])
  })

  it('an option that nobody knows is one line', () => {
    for (const option of ['stroe=memory:', 'quick', 'state-dir', 'suid=1']) {
      expect(() => mountArguments(call(option))).toThrow(/^mount option ".*" is not known; allowed are/)
    }
  })

  it('knows a remount', () => {
    expect(isRemount(call('rw,noexec,remount,nosuid,user_id=0').options)).toBe(true)
    expect(isRemount(call('rw,nosuid').options)).toBe(false)
  })
})

it('doctor says whether mount -o remount reaches ferryfs', () => {
  const having = (...paths: string[]) => checkRemount((path) => paths.includes(path))
  expect(having()).toEqual([])
  expect(having('/sbin/mount.fuse')).toMatchObject([
    { level: 'warn', what: expect.stringMatching(/finds no ferryfs$/) },
  ])
  expect(having('/sbin/mount.fuse3', '/usr/local/bin/ferryfs')).toMatchObject([{ level: 'ok' }])
})
