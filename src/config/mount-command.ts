import { flagOf, type ListenAddress, OPTION_KEYS, OPTIONS, type OptionKey, type Settings } from './options.ts'

/** Settings as somebody would type them, by key; only those that are not at their default. */
export type SettingTexts = Readonly<Partial<Record<OptionKey, string>>>

// The mode is the state directory's to remember: it may have been changed since. Where that is, is said apart.
const APART: ReadonlySet<OptionKey> = new Set(['mode', 'stateDir'])

/** What a later mount has to be told to be the same. No setting is a secret: passwords come from files and the environment. */
export function settingTexts(settings: Partial<Settings>): SettingTexts {
  const texts: Partial<Record<OptionKey, string>> = {}
  for (const [key, value] of Object.entries(settings)) {
    if (!isOptionKey(key) || APART.has(key) || value === OPTIONS[key].fallback || value === undefined)
      continue
    texts[key] = textOf(key, value)
  }
  return texts
}

/** The same out of a file that may have been written by another version: what is not understood is left out. */
export function settingTextsIn(value: unknown): SettingTexts {
  if (typeof value !== 'object' || value === null) return {}
  const known = Object.entries(value).filter(
    ([key, text]) =>
      isOptionKey(key) &&
      !APART.has(key) &&
      typeof text === 'string' &&
      OPTIONS[key].schema.safeParse(text).success,
  )
  return Object.fromEntries(known)
}

/** The whole command, to be typed into a shell as it stands. */
export function mountCommand(mount: {
  readonly source: string
  readonly target: string
  readonly stateDir: string
  readonly settings: SettingTexts
  readonly takeOver?: boolean
}): string {
  const words = ['ferryfs', 'mount', mount.source, mount.target, '--state-dir', mount.stateDir]
  for (const key of OPTION_KEYS) {
    const text = mount.settings[key]
    if (text === undefined) continue
    words.push(flagOf(key))
    if (OPTIONS[key].fallback !== false) words.push(text)
  }
  if (mount.takeOver) words.push('--take-over')
  return words.map(shellWord).join(' ')
}

/** Quoted where the shell would take it for something else, or a terminal for a command. */
export function shellWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word
  if (!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(word)) return `'${word.replaceAll("'", "'\\''")}'`
  const bytes = Array.from(Buffer.from(word), (byte) =>
    /[\w@%+=:,./-]/.test(String.fromCharCode(byte))
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, '0')}`,
  )
  return `$'${bytes.join('')}'`
}

function isOptionKey(key: string): key is OptionKey {
  return key in OPTIONS
}

function textOf(key: OptionKey, value: string | number | boolean | ListenAddress): string {
  if (typeof value === 'object')
    return value.host.includes(':') ? `[${value.host}]:${value.port}` : `${value.host}:${value.port}`
  return key === 'opTimeout' ? `${value}ms` : String(value)
}
