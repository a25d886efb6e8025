/**
 * What a worker takes of the memory for a tree of small files: `node test/bench/memory.ts [FILES] [MODE …]`, 100,000 files and
 * mirror and drain unless given. The most that was resident in each step; tree and state lie in the memory (/dev/shm).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ferry } from '../support/mount/ferry.ts'

const [files = '100000', ...modes] = process.argv.slice(2)
const PER_DIRECTORY = 1000

function fill(source: string, count: number): void {
  for (let index = 0; index < count; index += 1) {
    const directory = join(source, `d${Math.floor(index / PER_DIRECTORY)}`)
    if (index % PER_DIRECTORY === 0) mkdirSync(directory)
    writeFileSync(join(directory, `f${index}`), `file ${index}`)
  }
}

const memoryOf = (pid: number, key: string): number =>
  Number(new RegExp(`${key}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) /
  1024

async function measured(ferry: Ferry, what: string, body: () => Promise<unknown>): Promise<void> {
  const { pid } = await ferry.status()
  // proc_pid_clear_refs(5): the most that was resident is what is resident now.
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  const from = performance.now()
  await body()
  const seconds = (performance.now() - from) / 1000
  const [most, now] = [memoryOf(pid, 'VmHWM'), memoryOf(pid, 'VmRSS')]
  console.log(
    `  ${what}: ${seconds.toFixed(0)} s, at most ${most.toFixed(0)} MiB resident, ${now.toFixed(0)} MiB at the end`,
  )
}

async function run(mode: string, count: number): Promise<void> {
  const ferry = new Ferry({ parent: '/dev/shm' })
  try {
    fill(ferry.source, count)
    console.log(`${count} files in ${mode}:`)
    await ferry.mount('--mode', mode)
    await measured(ferry, 'migrate', () => ferry.migrate())
    await measured(ferry, 'verify', () => ferry.ask({ command: 'verify' }))
    await measured(ferry, 'list with attributes', () => ferry.run('find', ferry.target, '-size', '+1G'))
    await measured(ferry, 'status', () => ferry.ask({ command: 'status' }))
  } finally {
    await ferry.clear().catch((error: unknown) => console.log(String(error).slice(0, 2000)))
  }
}

for (const mode of modes.length > 0 ? modes : ['mirror', 'drain']) await run(mode, Number(files))
