#!/usr/bin/env node
import { entryPoint } from '../base/entry-point.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { keepLittleGarbage } from './little-garbage.ts'
import { otherBytes } from './other-bytes.ts'

// Whoever read the result has gone (a pipe into head): nothing is left to say. A log that nobody reads ends no mount.
process.stdout.on('error', () => process.exit(EXIT.failed))
process.stderr.on('error', () => undefined)

const args = process.argv.slice(2)
const note = (line: string): boolean => process.stderr.write(`${line}\n`)
const wrong = otherBytes(args.length)
if (wrong === undefined) {
  keepLittleGarbage(args)
  // Loaded only now: a process that starts over has no need of it.
  const { runCli } = await import('./run.ts')
  process.exitCode = await runCli(args, {
    environment: process.env,
    print: (line) => process.stdout.write(`${line}\n`),
    note,
    terminal: process.stderr.isTTY ? process.stderr : undefined,
    workerFile: entryPoint('daemon/worker'),
    loadRebuild: async () => (await import('../daemon/rebuild-state.ts')).rebuildState,
  })
} else {
  note(`ferryfs: ${wrong}`)
  process.exitCode = EXIT.usage
}
