#!/usr/bin/env node
import { entryPoint } from '../daemon/process.ts'
import { runCli } from './run.ts'

process.exitCode = await runCli(process.argv.slice(2), {
  environment: process.env,
  print: (line) => process.stdout.write(`${line}\n`),
  note: (line) => process.stderr.write(`${line}\n`),
  terminal: process.stderr.isTTY ? process.stderr : undefined,
  workerFile: entryPoint('worker'),
  loadRebuild: async () => (await import('../daemon/compose.ts')).rebuildState,
})
