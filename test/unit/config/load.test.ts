import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { UsageError } from '../../../src/base/errors.ts'
import { loadSettings, type Sources } from '../../../src/config/load.ts'
import { OPTION_KEYS, OPTIONS, type OptionKey } from '../../../src/config/options.ts'

let directory: string

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-config-'))
})

afterAll(() => {
  rmSync(directory, { recursive: true })
})

function file(content: unknown): string {
  const path = join(directory, 'config.json')
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

const load = (sources: Partial<Sources>): ReturnType<typeof loadSettings> =>
  loadSettings({ flags: {}, environment: {}, ...sources })

function complaint(sources: Partial<Sources>): string {
  try {
    load(sources)
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError)
    if (error instanceof UsageError) {
      expect(error.exitStatus).toBe(2)
      expect(error.message).not.toContain('\n')
      return error.message
    }
  }
  throw new Error('nothing was refused')
}

describe('settings', () => {
  it('have the defaults of the design', () => {
    expect(load({})).toEqual({
      store: 'embedded:',
      mode: undefined,
      stateDir: undefined,
      namespace: 'ferryfs',
      transport: 'kernel',
      sourceReadonly: false,
      ack: 'local',
      opTimeout: 30_000,
      stagingLimit: 10 * 1024 ** 3,
      cacheLimit: 1024 ** 3,
      memoryCacheLimit: 64 * 1024 ** 2,
      inlineLimit: 1024 ** 2,
      concurrency: 8,
      metricsListen: undefined,
      logLevel: 'info',
    })
  })

  it('a flag wins over the environment, that over the file, that over the default', () => {
    const path = file({ ack: 'store', opTimeout: '1s', cacheLimit: '1MiB', mode: 'observe' })
    const environment = { FERRYFS_OP_TIMEOUT: '2s', FERRYFS_CACHE_LIMIT: '2MiB', FERRYFS_MODE: '' }
    const settings = load({ file: path, environment, flags: { cacheLimit: '3MiB' } })
    expect(settings).toMatchObject({
      ack: 'store',
      opTimeout: 2_000,
      cacheLimit: 3 * 1024 ** 2,
      mode: 'observe',
      logLevel: 'info',
    })
  })

  it('FERRYFS_CONFIG names the file, --config another', () => {
    const path = file({ concurrency: 3 })
    expect(load({ environment: { FERRYFS_CONFIG: path } }).concurrency).toBe(3)
    expect(load({ environment: { FERRYFS_CONFIG: '/nowhere' }, file: path }).concurrency).toBe(3)
  })

  it('true, 1 and yes turn a switch on in the environment', () => {
    for (const text of ['true', '1', 'yes']) {
      expect(load({ environment: { FERRYFS_SOURCE_READONLY: text } }).sourceReadonly).toBe(true)
    }
    expect(load({ environment: { FERRYFS_SOURCE_READONLY: 'no' } }).sourceReadonly).toBe(false)
  })

  it.each([
    ['9095', { host: '127.0.0.1', port: 9095 }],
    ['127.0.0.1:1', { host: '127.0.0.1', port: 1 }],
    ['[::1]:65535', { host: '::1', port: 65_535 }],
    ['localhost:0', { host: 'localhost', port: 0 }],
    ['off', undefined],
  ])('metricsListen %s', (text, address) => {
    expect(load({ environment: { FERRYFS_METRICS_LISTEN: text } }).metricsListen).toEqual(address)
  })
})

describe('an error names the key, the value and what is allowed', () => {
  it('for a flag, a variable and the file', () => {
    const allowed = 'allowed: observe, mirror, prefer-store, drain, store-only'
    expect(complaint({ flags: { mode: 'fast' } })).toBe(`--mode is "fast"; ${allowed}`)
    expect(complaint({ environment: { FERRYFS_MODE: 'fast' } })).toBe(`FERRYFS_MODE is "fast"; ${allowed}`)
    const path = file({ mode: 'fast' })
    expect(complaint({ file: path })).toBe(`${path}: "mode" is "fast"; ${allowed}`)
  })

  it('also where another value overrides the bad one', () => {
    expect(complaint({ environment: { FERRYFS_ACK: 'both' }, flags: { ack: 'local' } })).toContain(
      'FERRYFS_ACK',
    )
  })

  it.each<[OptionKey, unknown]>([
    ['store', 'redis://host'],
    ['store', 'riak:host'],
    ['store', 'embedded:relative'],
    ['store', 'memory:/x'],
    ['store', 7],
    ['stateDir', 'relative'],
    ['namespace', ''],
    ['namespace', '../up'],
    ['namespace', 'a'.repeat(64)],
    ['transport', 'nfs'],
    ['sourceReadonly', 'perhaps'],
    ['ack', 'none'],
    ['opTimeout', '30'],
    ['opTimeout', '1ms'],
    ['opTimeout', '1h'],
    ['stagingLimit', '1KiB'],
    ['stagingLimit', 'much'],
    ['cacheLimit', -1],
    ['memoryCacheLimit', '1TiB'],
    ['inlineLimit', '17MiB'],
    ['concurrency', 0],
    ['concurrency', '2.5'],
    ['concurrency', 257],
    ['metricsListen', '0.0.0.0:9095'],
    ['metricsListen', 'localhost:99999'],
    ['logLevel', 'loud'],
  ])('%s = %j', (key, value) => {
    expect(complaint({ flags: { [key]: value } })).toContain(`; allowed: ${OPTIONS[key].allowed}`)
  })

  it('a password in a store URL is refused and not repeated', () => {
    const message = complaint({ flags: { store: 'riak://user:hush@host:8087/' } })
    expect(message).toContain('a password comes from passwordFile=… or FERRYFS_RIAK_PASSWORD')
    expect(message).not.toContain('hush')
  })

  it('an unknown key in the file lists the known ones', () => {
    const path = file({ moed: 'drain' })
    expect(complaint({ file: path })).toBe(
      `${path}: unknown key "moed" ("drain"); allowed: ${OPTION_KEYS.join(', ')}`,
    )
  })

  it.each(['{', '[]', '"text"', 'null'])('a file that holds %s', (content) => {
    expect(complaint({ file: file(content) })).toMatch(
      /^the configuration file .*(is not JSON|one JSON object)/,
    )
  })

  it('a file that is not there', () => {
    expect(complaint({ file: '/nowhere/config.json' })).toMatch(
      /^the configuration file \/nowhere.* cannot be read/,
    )
  })
})
