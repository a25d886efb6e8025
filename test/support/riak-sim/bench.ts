/**
 * What the adapter adds to the bare client library: `node test/support/riak-sim/bench.ts [hosts]`, against a simulator of
 * its own in another process or the hosts given. Prints ratios of processor time for one operation in the client's process,
 * adapter to library; one is equal, two is twice the work. Time on the clock depends on what else the machine does.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { openRiakStore } from '../../../src/store/riak/index.ts'

const NAMESPACE = `bench${process.pid}`
const SIZES = [1024, 64 * 1024, 1024 * 1024]
const CONCURRENCY = [1, 16]

/** Of each measurement; the least of several has the least of everything else in it. */
const MEASURE_MS = Number(process.env.FERRYFS_BENCH_MS ?? 700)
const REPETITIONS = 3

interface Subject {
  put(key: string, value: Buffer, version: number): Promise<unknown>
  get(key: string): Promise<unknown>
}

/** Microseconds of processor time for one operation. */
async function processorTime(
  concurrency: number,
  work: (worker: number, count: number) => Promise<unknown>,
): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let repetition = 0; repetition < REPETITIONS; repetition++) {
    const before = process.cpuUsage()
    const start = performance.now()
    let done = 0
    await Promise.all(
      Array.from({ length: concurrency }, async (_, worker) => {
        for (let count = 0; performance.now() - start < MEASURE_MS; count++) {
          await work(worker, count)
          done++
        }
      }),
    )
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, (user + system) / done)
  }
  return best
}

let version = 0

async function measure(subject: Subject, size: number, concurrency: number): Promise<Record<string, number>> {
  const value = Buffer.alloc(size, 'x')
  let fresh = 0
  return {
    'put, new key': await processorTime(concurrency, () =>
      subject.put(`new ${process.hrtime.bigint()} ${fresh++}`, value, 1),
    ),
    'put, same key': await processorTime(concurrency, (worker) =>
      subject.put(`same ${worker}`, value, ++version),
    ),
    get: await processorTime(concurrency, (worker) => subject.get(`same ${worker}`)),
  }
}

/** The library as its documentation shows it: a cluster of all nodes, and the causal context taken along. */
function bare(hosts: string): Subject {
  const require = createRequire(import.meta.url)
  const Riak = require('basho-riak-client')
  const cluster = new Riak.Cluster({ nodes: Riak.Node.buildNodes(hosts.split(','), { maxConnections: 16 }) })
  const client = new Riak.Client(cluster)
  const contexts = new Map<string, Buffer>()
  const call = (method: 'storeValue' | 'fetchValue', options: object): Promise<{ vclock: Buffer }> =>
    new Promise((resolve, reject) => {
      client[method](options, (error: unknown, result: { vclock: Buffer }) =>
        error ? reject(error) : resolve(result),
      )
    })
  const bucket = { bucketType: 'ferryfs', bucket: `${NAMESPACE}-bare` }
  return {
    async put(key, value) {
      const { vclock } = await call('storeValue', {
        ...bucket,
        key,
        value,
        vclock: contexts.get(key),
        returnHead: true,
      })
      contexts.set(key, vclock)
    },
    get: (key) => call('fetchValue', { ...bucket, key }),
  }
}

async function adapter(hosts: string): Promise<Subject & { stop(): Promise<void> }> {
  const log = { info: () => undefined, warn: () => undefined }
  const store = await openRiakStore(`riak://${hosts}/?type=ferryfs`, { namespace: NAMESPACE, log })
  return {
    put: (key, value, number) =>
      store.put('files', key, {
        value,
        version: { epoch: 0, version: number },
        contentType: 'text/plain',
        metadata: {},
      }),
    get: (key) => store.get('files', key),
    stop: () => store.close(),
  }
}

async function simulator(): Promise<{ hosts: string; stop(): void }> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, '--nodes', '3', '--ports', '0,0,0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const started: { nodes: { port: number }[] } = JSON.parse(String(line))
  return { hosts: started.nodes.map(({ port }) => `127.0.0.1:${port}`).join(','), stop: () => child.kill() }
}

const given = process.argv[2]
const cluster = given === undefined ? await simulator() : { hosts: given, stop: () => undefined }
const [library, store] = [bare(cluster.hosts), await adapter(cluster.hosts)]
for (const size of SIZES) {
  for (const concurrency of CONCURRENCY) {
    const theirs = await measure(library, size, concurrency)
    const ours = await measure(store, size, concurrency)
    const ratios = Object.keys(ours).map(
      (name) => `${name} ${((ours[name] ?? 0) / (theirs[name] ?? 1)).toFixed(2)}`,
    )
    process.stdout.write(`${size / 1024} KiB, ${concurrency} at once: ${ratios.join(', ')}\n`)
  }
}
await store.stop()
cluster.stop()
// The library's own stop may wait for ever for a connection that it has lost count of.
process.exit()
