import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { Ferry } from '../../support/mount/ferry.ts'

// Makes much that dies young, with a little of it in use all the time, as a process does that goes through a tree.
const PROBE = `
import { writeFileSync } from 'node:fs'
import { getHeapSpaceStatistics } from 'node:v8'
process.once('exit', () => {
  let used = []
  for (let n = 0; n < 4_000_000; n += 1) {
    used.push({ n, text: 'x' + n })
    if (used.length === 300_000) used = used.slice(250_000)
  }
  const young = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space').space_size
  const { pid, env, argv } = process
  writeFileSync(env.PROBED, JSON.stringify({ pid, young, arenas: env.MALLOC_ARENA_MAX, args: argv.slice(2) }))
})`

const probed = z.object({
  pid: z.number(),
  young: z.number(),
  arenas: z.string().optional(),
  args: z.array(z.string()),
})

describe('a command that goes through a whole tree (P6)', () => {
  let ferry: Ferry

  afterEach(() => ferry.clear())

  it.each(['rebuild', 'restore'])('%s keeps little memory that nobody uses', async (command) => {
    ferry = new Ferry()
    const probe = join(ferry.root, 'probe.mjs')
    const answer = join(ferry.root, 'probed')
    writeFileSync(probe, PROBE)
    const store = ['--store', `embedded:${join(ferry.root, 'ä b')}`, '--namespace', 'made']
    const where = command === 'rebuild' ? ['--state-dir', ferry.stateDir] : [join(ferry.root, 'dest')]
    const [program, line] = ferry.line(command, ...store, ...where)
    const child = spawn(program, line, {
      env: { ...ferry.environment, NODE_OPTIONS: `--import ${probe}`, PROBED: answer },
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const [status] = await once(child, 'close')
    const { pid, young, arenas, args } = probed.parse(JSON.parse(readFileSync(answer, 'utf8')))
    // Left to itself, Node lets it grow to 128 MiB.
    expect(young).toBeLessThanOrEqual(16 << 20)
    expect(arenas).toBe('2')
    // To whoever waits for it, it is the process that was started, with what that was told.
    expect(pid).toBe(child.pid)
    expect(args).toEqual([command, ...store, ...where])
    // Without a store.
    expect({ status, said }).toEqual({ status: 4, said: expect.stringMatching(/^ferryfs: [^\n]+\n$/) })
  })
})
