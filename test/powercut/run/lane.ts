// First: the calls of node:fs are replaced before the product is loaded.
import '../machine/io.ts'
import { runLane } from './campaign.ts'
import type { Options } from './options.ts'

// One process with the shim preloaded; main.ts starts it and reads its lines.
const [options = '{}', lane = '0'] = process.argv.slice(2)
process.umask(0)
await runLane(JSON.parse(options) as Options, Number(lane), (line) =>
  process.stdout.write(`${JSON.stringify(line)}\n`),
)
process.exit(0)
