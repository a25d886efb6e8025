/**
 * What a bystander of a hostile tree waits, in every mode, and how long the event loop is kept: `node test/bench/hostile.ts
 * [SCALE] [MODE …]`, SCALE a part of what P6 speaks of (100,000 names of a file, a directory of 1,000,000, 3,000 levels, files
 * of 8 TiB), 0.02 unless given. The tree and the state lie in the memory (/dev/shm).
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { LONG_TURN } from '../../src/daemon/gauges.ts'
import { growHostileTree, type HostileScale, LARGE_HOSTILE } from '../support/hostile-tree.ts'
import { Ferry } from '../support/mount/ferry.ts'

const [scale = '0.02', ...modes] = process.argv.slice(2)
const MODES = ['observe', 'mirror', 'prefer-store', 'drain', 'store-only']
const SMALL_FILES = 200

function scaled(part: number): HostileScale {
  const of = (count: number): number => Math.ceil(count * part)
  const { links, wide, deep, pieces, xattrs } = LARGE_HOSTILE
  return { links: of(links), wide: of(wide), deep: of(deep), pieces: of(pieces), xattrs }
}

/** Somebody who has nothing to do with it. */
async function bystander(ferry: Ferry, signal: AbortSignal): Promise<{ slowest: number; calls: number }> {
  let [slowest, calls] = [0, 0]
  while (!signal.aborted) {
    const before = performance.now()
    const file = ferry.at(`small/f${calls % SMALL_FILES}`)
    if (calls % 3 === 0) await stat(ferry.at(`small/${randomUUID()}`)).catch(() => undefined)
    else if (calls % 3 === 1) await readFile(file)
    else await stat(file)
    slowest = Math.max(slowest, performance.now() - before)
    calls += 1
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return { slowest, calls }
}

async function measured(ferry: Ferry, what: string, body: () => Promise<unknown>): Promise<void> {
  const done = new AbortController()
  const watching = bystander(ferry, done.signal)
  const from = performance.now()
  let outcome = ''
  try {
    await body()
  } catch (error) {
    outcome = `, failed: ${String(error).slice(0, 300)}`
  } finally {
    done.abort()
  }
  const seconds = (performance.now() - from) / 1000
  const { slowest, calls } = await watching
  console.log(
    `  ${what}: ${seconds.toFixed(1)} s, slowest of ${calls} calls of a bystander ${slowest.toFixed(0)} ms${outcome}`,
  )
}

async function run(mode: string, tree: HostileScale): Promise<void> {
  const ferry = new Ferry({ parent: '/dev/shm' })
  try {
    growHostileTree(ferry.source, tree)
    mkdirSync(join(ferry.source, 'small'))
    for (let index = 0; index < SMALL_FILES; index += 1)
      writeFileSync(join(ferry.source, 'small', `f${index}`), `small ${index}`)
    console.log(`${mode}:`)
    await ferry.mount('--mode', mode === 'store-only' ? 'drain' : mode)
    await measured(ferry, 'list the links', () => readdir(ferry.at('links')))
    await measured(ferry, 'list the wide directory', () => readdir(ferry.at('wide')))
    await measured(ferry, 'find', () => ferry.run('find', ferry.target, '-size', '+1G'))
    if (mode !== 'observe') await measured(ferry, 'migrate', () => ferry.migrate())
    if (mode === 'store-only') await measured(ferry, 'change to store-only', () => ferry.mode('store-only'))
    if (mode !== 'observe') await measured(ferry, 'verify', () => ferry.ask({ command: 'verify' }))
    await measured(ferry, 'status', () => ferry.done('status', ferry.target))
    await measured(ferry, 'punch', () =>
      ferry.run('fallocate', '-p', '-o', '4096', '-l', '8796093014016', ferry.at('sparse/pieces')),
    )
    await measured(ferry, 'truncate', () =>
      ferry.run('truncate', '-s', '9000000000000', ferry.at('sparse/hole')),
    )
    await measured(ferry, 'fsync', () => ferry.run('sync', ferry.at('sparse/pieces')))
    await measured(ferry, 'rm', () => ferry.run('rm', '-rf', ferry.at('links')))
  } finally {
    report(ferry)
    await ferry.clear().catch((error: unknown) => console.log(String(error).slice(0, 200)))
  }
}

function report(ferry: Ferry): void {
  const turns = ferry.log
    .split('\n')
    .filter((line) => line.includes(LONG_TURN))
    .map((line) => JSON.parse(line) as { ms: number; cpuMs: number; doing: string; stack?: string })
    .sort((a, b) => b.ms - a.ms)
  console.log(`  turns above 100 ms: ${turns.length}`)
  const seen = new Set<string>()
  for (const { ms, cpuMs, doing, stack } of turns) {
    const kind = doing.replace(/\d+/g, 'N')
    if (seen.has(kind)) continue
    seen.add(kind)
    const where = (stack ?? '')
      .match(/[\w-]+\.js:\d+/g)
      ?.slice(0, 6)
      .join(' ')
    console.log(`    ${ms} ms (cpu ${cpuMs}) ${doing} ${where ?? ''}`)
  }
}

for (const mode of modes.length > 0 ? modes : MODES) await run(mode, scaled(Number(scale)))
