import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { constants, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createInterface, type Interface } from 'node:readline'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

/** Maps its file shared and writable, closes it, and puts each line that it reads at the start of the mapping. */
const MAPPER = `
import mmap, sys
with open(sys.argv[1], "r+b") as file: mapping = mmap.mmap(file.fileno(), 0)
for line in sys.stdin:
    text = line.strip().encode()
    mapping[0:len(text)] = text
    print("done", flush=True)
`

class Mapper {
  readonly #process: ChildProcessWithoutNullStreams
  readonly #lines: Interface

  constructor(path: string) {
    this.#process = spawn('python3', ['-c', MAPPER, path])
    this.#lines = createInterface(this.#process.stdout)
  }

  get pid(): number | undefined {
    return this.#process.pid
  }

  put(text: string): Promise<unknown> {
    const answer = new Promise((resolve) => this.#lines.once('line', resolve))
    this.#process.stdin.write(`${text}\n`)
    return answer
  }

  async end(): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once('exit', resolve))
    this.#process.stdin.end()
    await ended
  }
}

describeMounted('files that somebody writes to past the mount', () => {
  let ferry: Ferry
  let mapper: Mapper | undefined

  beforeEach(() => {
    ferry = new Ferry()
    writeFileSync(ferry.under('log'), 'line 0\n')
    writeFileSync(ferry.under('mapped'), 'a'.repeat(8192))
    writeFileSync(ferry.under('quiet'), 'quiet')
  })

  afterEach(async () => {
    await mapper?.end()
    mapper = undefined
    await ferry.clear()
  })

  const left = (name: string): boolean => existsSync(ferry.under(name))

  test('P3: one that is open for writing stays until that has ended, is listed with its process, and goes then', async () => {
    const fd = await ferry.call.open(ferry.under('log'), constants.O_WRONLY | constants.O_APPEND)
    await ferry.mount('--mode', 'prefer-store')
    const said = await ferry.mode('drain')
    expect(said).toMatch(/^1 file is open for writing past the mount; what is open stays on the volume/m)
    expect(said).toMatch(/log: process \d+ \(/)
    expect(await ferry.ferryfs('migrate', ferry.target, '--wait')).toMatchObject({
      status: 3,
      stdout: expect.stringContaining('log: in use: process'),
    })
    const { failures } = await ferry.until(
      'the others gone and this one listed',
      ({ files, failures: listed }) => files.drained === 2 && listed.length === 1,
    )
    expect(failures).toMatchObject([
      { reason: expect.stringMatching(/in use: process \d+ \(.+\) has it open/) },
    ])
    expect([left('log'), left('quiet')]).toEqual([true, false])
    const line = Buffer.from('line 1\n')
    await ferry.call.write(fd, line, 7)
    await ferry.call.close(fd)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.until('all gone', ({ files, failures: listed }) => files.drained === 3 && listed.length === 0)
    expect((await ferry.readAnew('log')).toString()).toBe('line 0\nline 1\n')
    await ferry.done('verify', ferry.target)
  })

  test('P1 P3: what is written to a mapping behind a copy is seen, and stays with the file until the mapping has gone', async () => {
    mapper = new Mapper(ferry.under('mapped'))
    // The page is dirty and mapped writable from here on: what is written to it moves no time by itself.
    await mapper.put('first')
    await ferry.mount('--mode', 'prefer-store')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await mapper.put('second')
    expect((await ferry.readAnew('mapped')).toString()).toBe(readFileSync(ferry.under('mapped'), 'utf8'))
    await ferry.mode('drain')
    expect(await ferry.ferryfs('migrate', ferry.target, '--wait')).toMatchObject({ status: 3 })
    await ferry.until('the others gone', ({ files }) => files.drained === 2)
    await mapper.put('third')
    expect(left('mapped')).toBe(true)
    await mapper.end()
    mapper = undefined
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.until('all gone', ({ files }) => files.drained === 3)
    expect((await ferry.readAnew('mapped')).toString()).toBe(`thirdd${'a'.repeat(8186)}`)
    await ferry.done('verify', ferry.target)
  })
})
