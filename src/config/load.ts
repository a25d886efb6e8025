import { readFileSync } from 'node:fs'
import { reasonOf, UsageError } from '../base/errors.ts'
import type { SettingTexts } from './mount-command.ts'
import { flagOf, OPTION_KEYS, OPTIONS, type OptionKey, type Settings, variableOf } from './options.ts'

export interface Sources {
  /** Values of flags by key, as typed; absent where the flag was not given. */
  readonly flags: Readonly<Partial<Record<OptionKey, unknown>>>
  readonly environment: NodeJS.ProcessEnv
  /** `--config FILE`; else FERRYFS_CONFIG. */
  readonly file?: string | undefined
  /** Of the last mount at the same TARGET, where that is to be taken up. */
  readonly remembered?: SettingTexts | undefined
}

/**
 * The settings of a command: a flag wins over the environment, that over the file, that over what is remembered, that over the
 * default. Every value given is checked, also one that another overrides.
 * @throws UsageError that names the key, the value and what is allowed
 */
export function loadSettings(sources: Sources): Settings {
  const path = sources.file ?? (sources.environment.FERRYFS_CONFIG || undefined)
  const file = path === undefined ? {} : readSettingsFile(path)
  const settings: Partial<Record<OptionKey, unknown>> = {}
  for (const key of OPTION_KEYS) {
    settings[key] = OPTIONS[key].fallback
    const variable = variableOf(key)
    const candidates: [where: string, value: unknown][] = [
      ['the last mount', sources.remembered?.[key]],
      [`${path}: "${key}"`, file[key]],
      // An empty variable is how a unit file or a container definition says "not set".
      [variable, sources.environment[variable] || undefined],
      [flagOf(key), sources.flags[key]],
    ]
    for (const [where, value] of candidates) {
      if (value === undefined) continue
      settings[key] = checked(key, where, value)
    }
  }
  // Every key of OPTIONS was put through its own schema above.
  return settings as Settings
}

function checked(key: OptionKey, where: string, value: unknown): unknown {
  const result = OPTIONS[key].schema.safeParse(value)
  if (result.success) return result.data
  throw new UsageError(`${where} is ${shown(value)}; allowed: ${OPTIONS[key].allowed}`)
}

/** The value for a message, without what may be a password between `//` and `@`. */
function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).replace(/\/\/[^/@]*@/, '//***@')
}

function readSettingsFile(path: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new UsageError(`the configuration file ${path} cannot be read: ${reasonOf(error)}`, 2, {
      cause: error,
    })
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (error) {
    throw new UsageError(`the configuration file ${path} is not JSON: ${reasonOf(error)}`, 2, {
      cause: error,
    })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new UsageError(
      `the configuration file ${path} holds ${shown(parsed).slice(0, 40)}; allowed: one JSON object`,
    )
  }
  for (const [key, value] of Object.entries(parsed)) {
    if (!(key in OPTIONS)) {
      throw new UsageError(
        `${path}: unknown key "${key}" (${shown(value).slice(0, 60)}); allowed: ${OPTION_KEYS.join(', ')}`,
      )
    }
  }
  return { ...parsed }
}
