import { fileURLToPath } from 'node:url'
import { runCli } from '../../../src/cli/run.ts'

// The command line as src/cli/main.ts has it, but its daemons run fake workers.
process.exitCode = await runCli(process.argv.slice(2), {
  environment: process.env,
  print: (line) => process.stdout.write(`${line}\n`),
  note: (line) => process.stderr.write(`${line}\n`),
  terminal: undefined,
  workerFile: fileURLToPath(new URL('./fake-worker.ts', import.meta.url)),
  loadRebuild: () =>
    Promise.resolve(async () => ({
      files: 3,
      directories: 1,
      bytes: 3072,
      failures: [],
      failureCount: 0,
    })),
})
