import { mutate } from '../broken/mutate.ts'
import { BROKEN, SCALED } from '../broken/mutations.ts'
import type { Work } from './campaign.ts'
import type { Options } from './options.ts'

// One process with the shim preloaded; main.ts starts it and reads its lines.
const [options, work, known] = process.argv.slice(2).map((text) => JSON.parse(text)) as [
  Options,
  Work,
  string[],
]
process.umask(0)
const broken = options.broken === undefined ? [] : (BROKEN[options.broken]?.mutations ?? [])
const mutated = mutate([...SCALED, ...broken])
// The calls of node:fs are replaced before the product is loaded.
await import('../machine/io.ts')
await import('../machine/threads.ts')
await import('../machine/chance.ts')
const { runWork } = await import('./campaign.ts')
mutated.check()
await runWork(options, work, known, (line) => process.stdout.write(`${JSON.stringify(line)}\n`))
process.exit(0)
