import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { controlSocket, defaultStateDir, registryFile, runDirectory } from '../../../src/config/paths.ts'

const root = process.getuid?.() === 0

describe('paths', () => {
  it('the default state directory tells every pair of source and target apart', () => {
    const path = defaultStateDir('/a', '/b', { XDG_STATE_HOME: '/state' })
    expect(path).toMatch(root ? /^\/var\/lib\/ferryfs\/[0-9a-f]{12}$/ : /^\/state\/ferryfs\/[0-9a-f]{12}$/)
    expect(defaultStateDir('/a', '/b', { XDG_STATE_HOME: '/state' })).toBe(path)
    expect(defaultStateDir('/b', '/a', {})).not.toBe(defaultStateDir('/a', '/b', {}))
    expect(defaultStateDir('/a/b', '/c', {})).not.toBe(defaultStateDir('/a', '/b/c', {}))
  })

  it('FERRYFS_RUN_DIR overrides where mounts are recorded', () => {
    expect(runDirectory({ FERRYFS_RUN_DIR: '/elsewhere' })).toBe('/elsewhere')
    expect(registryFile('/elsewhere', '/mnt')).toMatch(/^\/elsewhere\/[0-9a-f]{12}\.json$/)
  })

  it('a control socket always has a path that fits an address', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, maxLength: 300 }), (name) => {
        const path = controlSocket(`/state/${name}`, '/run/ferryfs')
        expect(Buffer.byteLength(path)).toBeLessThanOrEqual(107)
      }),
    )
    expect(controlSocket('/state', '/run/ferryfs')).toBe('/state/control.sock')
  })
})
