import { reasonOf } from '../../src/base/errors.ts'
import { compileShim } from './machine/shim.ts'
import { runLanes } from './run/lanes.ts'
import { readOptions, Usage } from './run/options.ts'
import { printViolation, report } from './run/report.ts'
import { selfTest } from './run/self-test.ts'

// npm run test:power-cut. Ends with 0 if every promise held, 1 if one was broken, 2 if it could not be tried.
const EXIT = { held: 0, broken: 1, cannotRun: 2 } as const

const log = (line: string): void => void process.stdout.write(`${line}\n`)

async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args)
  if (process.getuid?.() !== 0) throw new Usage('the power-cut harness mounts file systems: run it as root')
  const shim = preloaded()
  if (options.selfTest) return (await selfTest(options, shim, log)) ? EXIT.held : EXIT.broken
  log(`power cut: seed ${options.seed}`)
  const outcome = await runLanes(options, shim, {
    violation(violation, isNew) {
      if (isNew || options.replay) printViolation('VIOLATION', violation, log)
      else log(`VIOLATION again: ${violation.kind} (${violation.replay})`)
      return true
    },
    shortest: (violation) => printViolation('shortest  ', violation, log),
    fault: (message) => log(`the harness failed: ${message}`),
  })
  report(outcome, options, log)
  return outcome.violations.length + outcome.faults.length === 0 ? EXIT.held : EXIT.broken
}

/** @throws Usage */
function preloaded(): string {
  try {
    return compileShim()
  } catch (error) {
    throw new Usage(`the library that records cannot be compiled: ${reasonOf(error)}`)
  }
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(EXIT.cannotRun))
try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  if (!(error instanceof Usage)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = EXIT.cannotRun
}
