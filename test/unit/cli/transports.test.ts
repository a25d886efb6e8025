import { describe, expect, it } from 'vitest'
import { judgeTransports, type TransportFacts } from '../../../src/cli/transports.ts'

const EVERYTHING: TransportFacts = {
  root: true,
  mayMount: true,
  deviceTrouble: undefined,
  hasMountProgram: true,
  fusermount: 'setuid',
  nativeTrouble: undefined,
}

const levels = (facts: Partial<TransportFacts>) =>
  judgeTransports({ ...EVERYTHING, ...facts }).map(({ level }) => level)

const words = (facts: Partial<TransportFacts>) =>
  judgeTransports({ ...EVERYTHING, ...facts })
    .flatMap(({ what, advice }) => [what, ...advice])
    .join('\n')

describe('doctor: which transport can be used', () => {
  it('both, where nothing is missing', () => {
    expect(levels({})).toEqual(['ok', 'ok'])
  })

  it('one is enough: what the other lacks is a warning', () => {
    expect(levels({ nativeTrouble: 'not installed' })).toEqual(['ok', 'warn'])
    expect(levels({ root: false, mayMount: false })).toEqual(['warn', 'ok'])
  })

  it('none is a failure', () => {
    expect(levels({ root: false, fusermount: 'missing' })).toEqual(['fail', 'fail'])
    expect(levels({ deviceTrouble: { missing: true, words: 'ENOENT' } })).toEqual(['fail', 'fail'])
  })

  it('names each package that is missing, and how to get it', () => {
    const text = words({
      root: false,
      fusermount: 'missing',
      nativeTrouble: 'Error: libfuse.so.2: cannot open shared object file',
    })
    expect(text).toContain('apt-get install libfuse2')
    expect(text).toContain('apt-get install fuse')
    expect(words({ nativeTrouble: 'not installed' })).toContain('npm install fuse-native@2.2.6')
  })

  it('a container without the right to mount, a fusermount without its bit, a device of root’s alone', () => {
    expect(words({ mayMount: false })).toContain('--cap-add SYS_ADMIN')
    expect(words({ root: false, fusermount: 'not setuid' })).toContain('chmod 4755')
    const closed = { root: false, deviceTrouble: { missing: false, words: 'EACCES' } }
    expect(words(closed)).toContain('chmod 666 /dev/fuse')
    // Root's own look at the device is not spoilt by what the user may not do.
    expect(judgeTransports({ ...EVERYTHING, ...closed })[0]?.what).toBe(
      '--transport kernel cannot be used: not root',
    )
  })
})
