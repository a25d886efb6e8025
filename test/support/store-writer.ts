import { spawn } from 'node:child_process'
import { writeSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { pino } from 'pino'
import type { ObjectToStore } from '../../src/store/contract.ts'
import { openStore } from '../../src/store/index.ts'

/**
 * A process that stores one object after the other, several at once, until it is killed. It says on its standard
 * output what it begins ("+ key") and what is acknowledged ("= key").
 */
const CONCURRENCY = 16

// Small ones in the index and large ones in files, mixed in one commit.
const SIZES = [0, 100, 4096, 70_000, 20_000, 300_000, 5000]

/** What the writer stores under a key: anyone can tell from the key alone. */
export function writtenObject(key: string): ObjectToStore {
  const at = Number(key.slice(key.lastIndexOf('/') + 1))
  const size = SIZES[at % SIZES.length] ?? 0
  return {
    value: Buffer.alloc(size, `${key} `),
    version: { epoch: 1, version: at },
    contentType: 'text/plain',
    metadata: { at: `${at}` },
  }
}

export interface WriterOptions {
  readonly url: string
  readonly stateDir: string
  readonly namespace: string
  /** Prefix of the keys that it writes. */
  readonly prefix: string
  /** `kill -9` after so many acknowledgements. */
  readonly killAfter: number
}

export interface KilledWriter {
  readonly begun: readonly string[]
  readonly acknowledged: readonly string[]
}

/** Starts a writer, kills it with SIGKILL after `killAfter` acknowledgements and tells what it had said by then. */
export async function runKilledWriter(options: WriterOptions): Promise<KilledWriter> {
  const { url, stateDir, namespace, prefix, killAfter } = options
  const child = spawn(
    process.execPath,
    [
      '--disable-warning=ExperimentalWarning',
      fileURLToPath(import.meta.url),
      url,
      stateDir,
      namespace,
      prefix,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const ended = new Promise<string>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(signal ?? `exit ${code}`))
  })
  const begun: string[] = []
  const acknowledged: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    if (line.startsWith('+ ')) begun.push(line.slice(2))
    if (line.startsWith('= ')) acknowledged.push(line.slice(2))
    if (acknowledged.length === killAfter) child.kill('SIGKILL')
  }
  const end = await ended
  if (end !== 'SIGKILL') throw new Error(`the writer ended by itself: ${end}`)
  return { begun, acknowledged }
}

async function writeUntilKilled(
  url: string,
  stateDir: string,
  namespace: string,
  prefix: string,
): Promise<void> {
  const store = await openStore(url, { stateDir, namespace, log: pino({ level: 'silent' }) })
  let next = 0
  const work = async (): Promise<never> => {
    for (;;) {
      const key = `${prefix}${next}`
      next += 1
      // Synchronous: a line that was said is in the pipe whatever happens next.
      writeSync(1, `+ ${key}\n`)
      await store.put('files', key, writtenObject(key))
      writeSync(1, `= ${key}\n`)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, work))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [url = '', stateDir = '', namespace = '', prefix = ''] = process.argv.slice(2)
  await writeUntilKilled(url, stateDir, namespace, prefix)
}
