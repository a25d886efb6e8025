import { spawn } from 'node:child_process'
import { UsageError } from '../base/errors.ts'
import { isMountFlag } from '../config/mount-flags.ts'
import { flagOf, OPTION_KEYS, OPTIONS } from '../config/options.ts'
import { EXIT } from '../daemon/exit-status.ts'
import type { Context, ExitStatus } from './context.ts'

// What mount(8) says that is no wish of anybody: defaults, words for fstab(5), and what it read off a FUSE mount that is there.
const OF_NO_MEANING = new Set([
  ...['rw', 'suid', 'dev', 'exec', 'async', 'atime', 'diratime', 'norelatime', 'symfollow', 'defaults'],
  ...['auto', 'noauto', 'user', 'nouser', 'users', 'owner', 'group', '_netdev', 'nofail'],
  ...['default_permissions', 'allow_other'],
])
const OF_NO_MEANING_VALUES =
  /^(fd|rootmode|user_id|group_id|subtype|fsname|max_read|comment|x-[^=]*|X-[^=]*)(=|$)/

// Of a mount that is there: what the kernel can change about it.
const CHANGEABLE =
  /^(ro|rw|suid|nosuid|dev|nodev|exec|noexec|symfollow|nosymfollow|atime|noatime|diratime|nodiratime|relatime|norelatime|strictatime|nostrictatime|sync|async|dirsync)$/

/**
 * The arguments by which mount(8) calls a helper for a mount of type fuse.ferryfs: SOURCE TARGET [flags] -o OPTIONS.
 * Undefined for what a person types.
 */
export function helperCall(
  args: readonly string[],
): { readonly source: string; readonly target: string; readonly options: readonly string[] } | undefined {
  const [source, target, ...rest] = args
  const at = rest.indexOf('-o')
  const options = rest[at + 1]
  if (!source?.startsWith('/') || !target?.startsWith('/') || at === -1 || options === undefined)
    return undefined
  return { source, target, options: splitOptions(options) }
}

/** At commas, but not at those in double quotes, which mount(8) hands on. */
function splitOptions(text: string): string[] {
  return (text.match(/(?:"[^"]*"|[^",])+/g) ?? []).map((option) => option.replaceAll('"', ''))
}

/** Whether a mount that is there is to be changed. */
export function isRemount(options: readonly string[]): boolean {
  return options.includes('remount')
}

/**
 * The command line of `mount` that the options of an fstab(5) line or of `mount -t fuse.ferryfs` stand for: those of mount(8),
 * and settings by the names of their flags, such as `state-dir=/state`.
 * @throws UsageError
 */
export function mountArguments(call: {
  readonly source: string
  readonly target: string
  readonly options: readonly string[]
}): string[] {
  const flags: string[] = []
  const settings: string[] = []
  for (const option of call.options) {
    if (isMountFlag(option)) flags.push(option)
    else if (!OF_NO_MEANING.has(option) && !OF_NO_MEANING_VALUES.test(option))
      settings.push(...settingOf(option))
  }
  const chosen = flags.length > 0 ? ['--options', flags.join(',')] : []
  return ['mount', call.source, call.target, ...settings, ...chosen]
}

function settingOf(option: string): string[] {
  const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(option) ?? []
  const key = OPTION_KEYS.find((each) => flagOf(each) === `--${name}`)
  if (key !== undefined && value !== undefined) return [flagOf(key), value]
  if (key !== undefined && OPTIONS[key].fallback === false) return [flagOf(key)]
  if (name === 'config' && value !== undefined) return ['--config', value]
  throw new UsageError(
    `mount option "${option}" is not known; allowed are those of mount(8), and ${OPTION_KEYS.map((each) => flagOf(each).slice(2)).join(', ')} with "=" and a value`,
  )
}

/** Changes the flags of a mount that is there; the daemon takes no part in it. */
export async function remount(
  { target, options }: { readonly target: string; readonly options: readonly string[] },
  context: Context,
): Promise<ExitStatus> {
  const flags = options.filter((option) => CHANGEABLE.test(option))
  // -i: without a helper, which is this program.
  const { status, words } = await runMount(['-i', '-o', ['remount', ...flags].join(','), '--', target])
  if (status === 0) return EXIT.done
  context.note(`ferryfs: ${target} cannot be remounted: ${words || `mount ended with ${status}`}`)
  return EXIT.failed
}

function runMount(
  args: readonly string[],
): Promise<{ readonly status: number | null; readonly words: string }> {
  return new Promise((resolve) => {
    const child = spawn('mount', args, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] })
    let words = ''
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      words += part
    })
    child.once('error', (error) => resolve({ status: null, words: error.message }))
    child.once('close', (status) => resolve({ status, words: words.trim().replace(/\s*\n\s*/g, ' ') }))
  })
}
