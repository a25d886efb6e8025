import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { leadsInto, mountsOf, parseMountinfo } from '../../../src/fuse/kernel/mountinfo.ts'

const line = (path: string, rest = 'fuse.ferryfs /old rw,user_id=0'): string =>
  `36 35 0:45 / ${path} rw,noatime master:1 - ${rest}`

/** As the kernel's mangle() writes a path. */
const escaped = (bytes: Buffer): string =>
  Array.from(bytes, (byte) =>
    [0x20, 0x09, 0x0a, 0x5c].includes(byte)
      ? `\\${byte.toString(8).padStart(3, '0')}`
      : String.fromCharCode(byte),
  ).join('')

describe('/proc/self/mountinfo', () => {
  it('is read as proc(5) has it', () => {
    expect(parseMountinfo(Buffer.from(`${line('/mnt')}\n`))).toEqual([
      {
        id: '36',
        parent: '35',
        root: '/',
        mountPoint: '/mnt',
        flags: ['rw', 'noatime'],
        propagation: ['master:1'],
        device: '0:45',
        type: 'fuse.ferryfs',
        source: '/old',
        options: 'rw,user_id=0',
      },
    ])
  })

  it('optional fields may be none or many', () => {
    const text = '36 35 0:45 / /a rw - ext4 /dev/a rw\n37 35 0:46 / /b rw x:1 y:2 z:3 - xfs /dev/b rw\n'
    expect(parseMountinfo(Buffer.from(text)).map((entry) => entry.type)).toEqual(['ext4', 'xfs'])
  })

  it('paths with blanks, tabs, line feeds and backslashes read back', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', ' ', '\t', '\n', '\\', '0', '4', '-', 'ä'), minLength: 1 }),
        (path) => {
          const bytes = Buffer.concat([Buffer.from(line(`/${escaped(Buffer.from(path))}`), 'latin1')])
          expect(parseMountinfo(bytes)[0]?.mountPoint).toBe(`/${path}`)
        },
      ),
    )
  })

  it('lines that make no sense are left out, whatever is in them', () => {
    expect(parseMountinfo(Buffer.from('\n36 35 0:45\n- - -\n'))).toEqual([])
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        parseMountinfo(Buffer.from(bytes))
      }),
    )
  })

  it('P1: tells a path that leads into a directory by a bind mount, of it, in it and around it', () => {
    const mounts = [
      '1 0 8:1 / / rw - ext4 /dev/a rw',
      '2 1 8:1 /data/src /same rw - ext4 /dev/a rw',
      '3 1 8:1 /data/src/in/it /inner rw - ext4 /dev/a rw',
      '4 1 8:1 /data /outer rw - ext4 /dev/a rw',
      '5 1 8:2 / /disk rw - xfs /dev/b rw',
      '6 1 8:2 /part /data/src/disk rw - xfs /dev/b rw',
      '7 1 8:3 / /over rw - ext4 /dev/c rw',
      '8 7 8:1 / /over/root rw - ext4 /dev/a rw',
    ]
    const table = parseMountinfo(Buffer.from(`${mounts.join('\n')}\n`))
    const leads = (path: string, directory = '/data/src'): boolean => leadsInto(path, directory, table)
    for (const path of [
      '/data/src/x',
      '/same',
      '/same/x/y',
      '/inner',
      '/inner/x',
      '/outer/src',
      '/outer/src/x',
      '/over/root/data/src/x',
      '/disk/part/x',
    ])
      expect(leads(path), path).toBe(true)
    for (const path of [
      '/',
      '/data',
      '/data/src2',
      '/outer',
      '/outer/other',
      '/disk',
      '/disk/part2',
      '/over/x',
    ])
      expect(leads(path), path).toBe(false)
    // SOURCE itself is reached by a bind mount.
    expect(leads('/data/src/x', '/same')).toBe(true)
    expect(leads('/inner', '/same')).toBe(true)
    expect(leads('/data/other', '/same')).toBe(false)
  })

  it('knows the mounts of this machine', () => {
    expect(mountsOf('/proc').map((entry) => entry.type)).toContain('proc')
    expect(mountsOf('/proc/self')).toEqual([])
  })
})
