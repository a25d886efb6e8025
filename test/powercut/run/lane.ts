import { mutate } from '../broken/mutate.ts'
import { BROKEN, SCALED } from '../broken/mutations.ts'
import type { Options } from './options.ts'

// One process with the shim preloaded; main.ts starts it and reads its lines.
const [text = '{}', lane = '0'] = process.argv.slice(2)
const options = JSON.parse(text) as Options
process.umask(0)
const broken = options.broken === undefined ? [] : (BROKEN[options.broken]?.mutations ?? [])
const mutated = mutate([...SCALED, ...broken])
// The calls of node:fs are replaced before the product is loaded.
await import('../machine/io.ts')
await import('../machine/threads.ts')
const { runLane } = await import('./campaign.ts')
mutated.check()
await runLane(options, Number(lane), (line) => process.stdout.write(`${JSON.stringify(line)}\n`))
process.exit(0)
