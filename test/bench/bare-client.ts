/**
 * The bare client library storing objects, in a process of its own: `node bare-client.ts HOSTS BUCKET-TYPE BUCKET
 * CONCURRENCY`, one directory of files a line on standard input; for each, one line of JSON with the seconds on the clock
 * and of the processor. The library is used as its documentation shows it, several requests at once.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const CHUNK_BYTES = 1 << 20
const [hosts = '', bucketType = '', bucket = '', concurrency = ''] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const Riak = require('basho-riak-client')
const client = new Riak.Client(
  new Riak.Cluster({
    nodes: Riak.Node.buildNodes(hosts.split(','), { minConnections: 4, maxConnections: Number(concurrency) }),
  }),
)

/** The objects that ferryfs makes of the files: what is larger than a chunk goes in chunks. */
function objectsOf(directory: string): { key: string; value: Buffer }[] {
  const paths = readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
  return paths.flatMap((path) => {
    const bytes = readFileSync(path)
    const count = Math.max(1, Math.ceil(bytes.length / CHUNK_BYTES))
    return Array.from({ length: count }, (_, index) => ({
      key: `${path}/${index}`,
      value: bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES),
    }))
  })
}

function store({ key, value }: { key: string; value: Buffer }): Promise<void> {
  return new Promise((resolve, reject) => {
    client.storeValue({ bucketType, bucket, key, value }, (error: unknown) =>
      error ? reject(error instanceof Error ? error : new Error(String(error))) : resolve(),
    )
  })
}

for await (const directory of createInterface({ input: process.stdin })) {
  const objects = objectsOf(directory)
  const [before, start] = [process.cpuUsage(), performance.now()]
  let next = 0
  await Promise.all(
    Array.from({ length: Number(concurrency) }, async () => {
      for (let object = objects[next++]; object; object = objects[next++]) await store(object)
    }),
  )
  const { user, system } = process.cpuUsage(before)
  const result = { seconds: (performance.now() - start) / 1000, processor: (user + system) / 1e6 }
  process.stdout.write(`${JSON.stringify({ ...result, objects: objects.length })}\n`)
}
// The library's own stop may wait for ever for a connection that it has lost count of.
process.exit()
