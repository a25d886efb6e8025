/**
 * How fast `ferryfs migrate` moves a tree into Riak, as a ratio to the bare client library that stores the same objects
 * with as many requests at once, in turn in one run: `npm run bench [-- HOSTS]`, HOSTS as in a riak:// URL, with a bucket
 * type `ferryfs`; without, against a simulated cluster of its own. Also the processor time of either for each MiB.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { Ferry } from '../support/mount/ferry.ts'

const BUCKET_TYPE = 'ferryfs'
const CONCURRENCY = 16
const ROUNDS = Number(process.env.FERRYFS_BENCH_ROUNDS ?? 5)
const KiB = 1024
const MiB = 1024 * KiB
// proc_pid_stat(5): clock ticks a second, the same on every Linux.
const TICKS_PER_SECOND = 100

interface Files {
  readonly files: number
  readonly bytes: number
}

interface Tree {
  readonly name: string
  readonly parts: readonly Files[]
}

/** What is moved: files of one size, and a tree as it is on a volume, most of the files small and most of the bytes in large ones. */
const TREES: readonly Tree[] = [
  { name: '3,000 files of 4 KiB', parts: [{ files: 3000, bytes: 4 * KiB }] },
  { name: '800 files of 128 KiB', parts: [{ files: 800, bytes: 128 * KiB }] },
  { name: '128 files of 1 MiB', parts: [{ files: 128, bytes: MiB }] },
  { name: '4 files of 48 MiB', parts: [{ files: 4, bytes: 48 * MiB }] },
  {
    name: 'a mixed tree, 600 files of 4 KiB, 300 of 64 KiB, 80 of 1 MiB, 2 of 32 MiB',
    parts: [
      { files: 600, bytes: 4 * KiB },
      { files: 300, bytes: 64 * KiB },
      { files: 80, bytes: MiB },
      { files: 2, bytes: 32 * MiB },
    ],
  },
]

const resultSchema = z.object({ seconds: z.number(), processor: z.number() })
type Result = z.infer<typeof resultSchema>

function fill(directory: string, { parts }: Tree): void {
  for (const { files, bytes } of parts) {
    for (let index = 0; index < files; index += 1) {
      const parent = join(directory, `d${bytes}-${Math.floor(index / 200)}`)
      mkdirSync(parent, { recursive: true })
      writeFileSync(join(parent, `f${index}`), randomBytes(bytes))
    }
  }
}

async function simulator(): Promise<{ hosts: string; child: ChildProcess }> {
  const main = fileURLToPath(new URL('../support/riak-sim/main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, '--nodes', '3', '--ports', '0,0,0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(createInterface({ input: child.stdout }), 'line')
  const { nodes } = z
    .object({ nodes: z.array(z.object({ port: z.number() })) })
    .parse(JSON.parse(String(line)))
  return { hosts: nodes.map(({ port }) => `127.0.0.1:${port}`).join(','), child }
}

/** The library in its own process, which takes one directory after the other. */
class BareClient {
  readonly #child
  readonly #lines: Interface

  constructor(hosts: string, bucket: string) {
    const program = fileURLToPath(new URL('bare-client.ts', import.meta.url))
    this.#child = spawn(process.execPath, [program, hosts, BUCKET_TYPE, bucket, String(CONCURRENCY)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.#child.stdout })
  }

  async store(directory: string): Promise<Result> {
    this.#child.stdin.write(`${directory}\n`)
    const [line] = await once(this.#lines, 'line')
    return resultSchema.parse(JSON.parse(String(line)))
  }

  end(): void {
    this.#child.stdin.end()
  }
}

/** Seconds of the processor that a process has used, its threads included. */
function processorOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

async function migrate(hosts: string, tree: Tree, name: string): Promise<Result> {
  const ferry = new Ferry()
  try {
    fill(ferry.source, tree)
    await ferry.mount(
      ...['--store', `riak://${hosts}/?type=${BUCKET_TYPE}`, '--namespace', name],
      ...['--concurrency', String(CONCURRENCY)],
    )
    const { pid } = await ferry.status()
    const [before, start] = [processorOf(pid), performance.now()]
    const { remaining } = await ferry.migrate()
    const seconds = (performance.now() - start) / 1000
    if (remaining !== 0) throw new Error(`${remaining} files were left`)
    const processor = processorOf(pid) - before
    await ferry.unmount()
    return { seconds, processor }
  } finally {
    await ferry.clear()
  }
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
const shown = (values: readonly number[]): string =>
  `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)}–${Math.max(...values).toFixed(2)})`

const given = process.argv[2]
const cluster = given === undefined ? await simulator() : { hosts: given, child: undefined }
const name = `bench-${process.pid}`
const bare = new BareClient(cluster.hosts, `${name}-bare`)
try {
  for (const [nth, tree] of TREES.entries()) {
    const mebibytes = tree.parts.reduce((sum, { files, bytes }) => sum + files * bytes, 0) / MiB
    const rounds: { theirs: Result; ours: Result }[] = []
    for (let round = 0; round < ROUNDS; round += 1) {
      const directory = mkdtempSync(join(tmpdir(), 'ferryfs-bench-'))
      try {
        fill(directory, tree)
        const theirs = await bare.store(directory)
        const ours = await migrate(cluster.hosts, tree, `${name}-${nth}-${round}`)
        rounds.push({ theirs, ours })
      } finally {
        rmSync(directory, { recursive: true, force: true })
      }
    }
    const ratios = rounds.map(({ theirs, ours }) => theirs.seconds / ours.seconds)
    const processor = (side: 'theirs' | 'ours'): number =>
      median(rounds.map((round) => (round[side].processor * 1000) / mebibytes))
    process.stdout.write(
      `${tree.name}: migrate at ${shown(ratios)} of the bare client's throughput; ` +
        `processor ${processor('ours').toFixed(1)} ms/MiB against ${processor('theirs').toFixed(1)}\n`,
    )
  }
} finally {
  bare.end()
  cluster.child?.kill()
}
