import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { loadSettings } from '../../../src/config/load.ts'
import { mountCommand, settingTexts, settingTextsIn, shellWord } from '../../../src/config/mount-command.ts'
import { flagOf, OPTION_KEYS, OPTIONS } from '../../../src/config/options.ts'

const given = {
  store: 'riak://a:8087,b:8087/?timeout=5s',
  namespace: 'tree',
  transport: 'fuse-native',
  sourceReadonly: true,
  ack: 'store',
  opTimeout: '2m',
  stagingLimit: '3GiB',
  cacheLimit: '0',
  memoryCacheLimit: '1MiB',
  inlineLimit: '4KiB',
  concurrency: '3',
  metricsListen: '[::1]:9095',
  logLevel: 'debug',
}

const settingsOf = (flags: object) => loadSettings({ flags, environment: {} })

describe('a mount as a command', () => {
  it('is as short as the settings are ordinary', () => {
    const settings = settingTexts(settingsOf({ mode: 'drain', stateDir: '/elsewhere' }))
    expect(mountCommand({ source: '/s', target: '/t', stateDir: '/st', settings })).toBe(
      'ferryfs mount /s /t --state-dir /st',
    )
  })

  it('has all that the mount was told, and means the same', () => {
    const settings = settingsOf(given)
    const texts = settingTexts(settings)
    expect(Object.keys(texts).sort()).toEqual(Object.keys(given).sort())
    const words = mountCommand({ source: '/s', target: '/t', stateDir: '/st', settings: texts }).split(' ')
    for (const key of OPTION_KEYS.filter((each) => each in given)) expect(words).toContain(flagOf(key))
    expect(loadSettings({ flags: {}, environment: {}, remembered: texts })).toEqual(settings)
    const typed = Object.fromEntries(
      OPTION_KEYS.flatMap((key) => {
        const index = words.indexOf(flagOf(key))
        if (index === -1 || key === 'stateDir') return []
        return [[key, OPTIONS[key].fallback === false ? true : words[index + 1]?.replaceAll("'", '')]]
      }),
    )
    expect(settingsOf(typed)).toEqual(settings)
  })

  it('comes back out of a record, without what another version or somebody else put there', () => {
    const texts = settingTexts(settingsOf(given))
    expect(settingTextsIn(JSON.parse(JSON.stringify(texts)))).toEqual(texts)
    expect(settingTextsIn({ ack: 'never', mode: 'drain', speed: '1', namespace: 7, stateDir: '/x' })).toEqual(
      {},
    )
    for (const nothing of [undefined, null, 7, 'x', []]) expect(settingTextsIn(nothing)).toEqual({})
  })

  it('keeps every path one word of a shell, and a terminal sees no command in it', () => {
    const path = fc
      .string({ unit: 'binary', minLength: 1 })
      .filter((text) => !text.includes('\0'))
      .map((text) => `/${Buffer.from(text).toString()}`)
    fc.assert(
      fc.property(path, (text) => {
        const word = shellWord(text)
        expect(word).not.toMatch(/\p{Cc}/u)
        const echoed = execFileSync('bash', ['-c', `printf %s ${word}`])
        expect(echoed.equals(Buffer.from(text))).toBe(true)
      }),
      { numRuns: 30 },
    )
    expect(shellWord("/it's here")).toBe(`'/it'\\''s here'`)
    expect(shellWord('/a\n\u001b[2J')).toBe(`$'/a\\x0a\\x1b\\x5b2J'`)
  })
})
