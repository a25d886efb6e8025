import { describe, expect, it } from 'vitest'
import { loadSettings } from '../../../src/config/load.ts'
import { flagsOfMount, mergeMountFlags, parseMountFlags } from '../../../src/config/mount-flags.ts'

describe('options of mount(8)', () => {
  it('may only take away', () => {
    expect(parseMountFlags('nosuid,,ro')).toEqual(['nosuid', 'ro'])
    for (const list of ['suid', 'rw', 'exec', 'fd=3', 'nosuid,allow_root', 'ro;reboot']) {
      expect(() => loadSettings({ flags: { options: list }, environment: {} })).toThrow(
        /^--options is ".*"; allowed: a list with commas of ro, nosuid/,
      )
    }
  })

  it('are read off a mount as the kernel says them', () => {
    expect(flagsOfMount({ flags: ['rw', 'nosuid', 'relatime'], options: 'rw,seclabel' })).toEqual([
      'nosuid',
      'relatime',
    ])
    expect(flagsOfMount({ flags: ['rw'], options: 'ro' })).toEqual(['ro', 'strictatime'])
  })

  it('add up; of two ways to keep access times the wish counts, but nothing undoes noatime', () => {
    expect(mergeMountFlags(['nosuid', 'relatime'], ['nodev', 'nosuid'])).toEqual([
      'nosuid',
      'relatime',
      'nodev',
    ])
    expect(mergeMountFlags(['nosuid', 'relatime'], ['noatime'])).toEqual(['nosuid', 'noatime'])
    expect(mergeMountFlags(['noatime'], ['strictatime', 'ro'])).toEqual(['noatime', 'ro'])
  })
})
