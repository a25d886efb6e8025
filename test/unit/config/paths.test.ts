import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { controlSocket, defaultStateDir, registryFile, runDirectory } from '../../../src/config/paths.ts'

const root = process.getuid?.() === 0

describe('paths', () => {
  it('the default state directory is one for each source, wherever that is served', () => {
    const path = defaultStateDir('/a', '/b', { XDG_STATE_HOME: '/state' })
    expect(path).toMatch(root ? /^\/var\/lib\/ferryfs\/[0-9a-f]{12}$/ : /^\/state\/ferryfs\/[0-9a-f]{12}$/)
    expect(defaultStateDir('/a', '/c', { XDG_STATE_HOME: '/state' })).toBe(path)
    expect(defaultStateDir('/b', '/a', {})).not.toBe(defaultStateDir('/a', '/b', {}))
    expect(defaultStateDir('/a', '/b', { FERRYFS_STATE_ROOT: '/x' })).toMatch(/^\/x\/[0-9a-f]{12}$/)
  })

  it('what an older ferryfs made for the pair of source and target goes on being used', () => {
    const environment = { FERRYFS_STATE_ROOT: mkdtempSync(join(tmpdir(), 'ferryfs-paths-')) }
    try {
      const ofSource = defaultStateDir('/a', '/b', environment)
      const ofPair = join(
        environment.FERRYFS_STATE_ROOT,
        createHash('sha256').update('/a\0/b').digest('hex').slice(0, 12),
      )
      mkdirSync(ofPair)
      expect(defaultStateDir('/a', '/b', environment)).toBe(ofPair)
      expect(defaultStateDir('/a', '/c', environment)).toBe(ofSource)
      mkdirSync(ofSource)
      expect(defaultStateDir('/a', '/b', environment)).toBe(ofSource)
    } finally {
      rmSync(environment.FERRYFS_STATE_ROOT, { recursive: true })
    }
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
