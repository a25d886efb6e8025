import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { CannotRun, campaign } from './campaign.ts'
import { cleanUpWhenInterrupted } from './interrupts.ts'
import { readOptions, Usage } from './options.ts'
import { writeReport } from './report/write.ts'
import { selfTest } from './self-test.ts'

// npm run test:chaos. Ends with 0 if every promise held, 1 if one was broken, 2 if it could not be tried.
const EXIT = { held: 0, broken: 1, cannotRun: 2 } as const

async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args)
  const log = (line: string): void => void process.stdout.write(`${line}\n`)
  if (options.selfTest) return (await selfTest(options, log)) ? EXIT.held : EXIT.broken
  const directory = resolve(options.report)
  mkdirSync(directory, { recursive: true })
  const outcome = await campaign(options, log)
  writeReport(outcome, directory, log)
  return outcome.collector.violations.length === 0 ? EXIT.held : EXIT.broken
}

cleanUpWhenInterrupted(EXIT.cannotRun)
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Usage || error instanceof CannotRun)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = EXIT.cannotRun
}
