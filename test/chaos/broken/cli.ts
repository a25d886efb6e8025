import { fileURLToPath } from 'node:url'
import { runCli } from '../../../src/cli/run.ts'

// The command line as src/cli/main.ts has it, but its daemons run workers that are broken on purpose.
process.exitCode = await runCli(process.argv.slice(2), {
  environment: process.env,
  print: (line) => process.stdout.write(`${line}\n`),
  note: (line) => process.stderr.write(`${line}\n`),
  terminal: undefined,
  workerFile: fileURLToPath(new URL('./worker.ts', import.meta.url)),
  loadRebuild: async () => (await import('../../../src/daemon/rebuild-state.ts')).rebuildState,
})
