import { openSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadSettings } from '../../../src/config/load.ts'
import { runDirectory } from '../../../src/config/paths.ts'
import type { MountDriver } from '../../../src/daemon/mount-driver.ts'
import { Supervisor } from '../../../src/daemon/supervisor.ts'
import { createLog } from '../../../src/observe/log.ts'

// A real supervisor and real workers with a fake engine, and nothing mounted: SOURCE TARGET STATE-DIR [--config FILE].
const [source = '', target = '', stateDir = '', , file] = process.argv.slice(2)

const driver: MountDriver = {
  open: () => openSync('/dev/null', 'r+'),
  mount: async () => undefined,
  unmount: async () => undefined,
  answers: async () => true,
  survivesKill: () => true,
}

const settings = loadSettings({ flags: {}, environment: process.env, file })
const write = (line: string): void => void process.stdout.write(line.endsWith('\n') ? line : `${line}\n`)
const supervisor = new Supervisor({
  config: { ...settings, source, target, stateDir },
  runDir: runDirectory(process.env),
  workerFile: fileURLToPath(new URL('./fake-worker.ts', import.meta.url)),
  driver,
  log: createLog({ level: 'info', name: 'supervisor', write }),
  onOutput: write,
})
process.on('SIGTERM', () => void supervisor.stop())
await supervisor.start()
await supervisor.ended
