import { fileURLToPath } from 'node:url'
import { BROKEN_NAMES } from './broken/names.ts'
import { campaign } from './campaign.ts'
import type { Options } from './options.ts'
import { Usage } from './options.ts'

const BROKEN_CLI = fileURLToPath(new URL('./broken/cli.ts', import.meta.url))

/**
 * Tries the chaos run itself: each overlay that breaks a promise on purpose has to be caught by the cases that a run with
 * the same seed begins with. True if all were.
 */
export async function selfTest(options: Options, log: (line: string) => void): Promise<boolean> {
  const names = options.broken === undefined ? BROKEN_NAMES : options.broken.split(',')
  const unknown = names.find((name) => !BROKEN_NAMES.includes(name))
  if (unknown !== undefined) throw new Usage(`--broken ${unknown}: one of ${BROKEN_NAMES.join(', ')}`)
  const missed: string[] = []
  for (const name of names) {
    const program = { cli: BROKEN_CLI, environment: { FERRYFS_CHAOS_BROKEN: name } }
    const { collector } = await campaign(options, () => undefined, { program, stopAtFirst: true })
    const [found] = collector.violations
    const seconds = (collector.elapsedMs / 1000).toFixed(0)
    const after = `${collector.sessions} cases, ${seconds} s`
    if (found) log(`caught  ${name} (${after}): ${found.message.split('\n')[0]?.slice(0, 200)}`)
    else {
      missed.push(name)
      log(`MISSED  ${name} (${after})`)
    }
  }
  log(`caught ${names.length - missed.length} of ${names.length}`)
  return missed.length === 0
}
