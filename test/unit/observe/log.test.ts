import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readableLine } from '../../../src/observe/console.ts'
import { createLog } from '../../../src/observe/log.ts'
import { LogFile } from '../../../src/observe/log-file.ts'

function written(log: (write: ReturnType<typeof createLog>) => void): string[] {
  const lines: string[] = []
  log(createLog({ level: 'info', name: 'worker', write: (line) => lines.push(line) }))
  return lines
}

describe('the log', () => {
  it('is one JSON object a line, with who, when, how bad and what', () => {
    const [line = ''] = written((log) => log.info({ path: 'a' }, 'stored'))
    expect(line.endsWith('}\n')).toBe(true)
    expect(JSON.parse(line)).toMatchObject({
      level: 'info',
      name: 'worker',
      pid: process.pid,
      path: 'a',
      msg: 'stored',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    })
  })

  it('leaves out what is below its level', () => {
    expect(written((log) => log.debug({}, 'x'))).toEqual([])
  })

  it('never shows a secret, by field or in a URL', () => {
    const lines = written((log) => {
      log.info({ password: 'hush', store: { password: 'hush' }, a: { b: { token: 'hush' } } }, 'x')
      log.error({ err: new Error('cannot reach riak://user:hush@host:8087/') }, 'riak://u:hush@h')
    })
    expect(lines.join('')).not.toContain('hush')
    expect(lines.join('')).toContain('riak://user:***@host:8087/')
  })

  it('has one line for each event, whatever names are in it, on a terminal too', () => {
    const forged = 'x\n12:00:00 ERROR worker: forged\u001b[2J\u009b\u2028'
    const lines = written((log) => log.warn({ path: forged }, `cannot copy ${forged}`))
    expect(lines).toHaveLength(1)
    expect(lines.join('')).not.toMatch(/[\u2028\u009b]|.\n./s)
    expect(JSON.parse(lines.join(''))).toMatchObject({ path: forged })
    const shown = readableLine(lines.join(''))
    expect(shown.trimEnd()).not.toMatch(/[\p{Cc}\p{Zl}]/u)
  })

  it('is readable on a terminal', () => {
    const [line = ''] = written((log) => log.warn({ err: new Error('broken'), tries: 3 }, 'no store'))
    expect(readableLine(line)).toMatch(/^\d\d:\d\d:\d\d WARN worker: no store err="broken" tries=3\n$/)
    expect(readableLine('not JSON')).toBe('not JSON')
    expect(readableLine('7')).toBe('7')
  })
})

describe('P6: the log file', () => {
  let directory: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-log-'))
  })
  afterEach(() => {
    rmSync(directory, { recursive: true, force: true })
  })

  it('never takes more than its share of the disk, and keeps the youngest lines', async () => {
    const file = new LogFile(join(directory, 'daemon.log'), { maxBytes: 1000, keep: 2 })
    for (let index = 0; index <= 500; index += 1) file.write(`line ${String(index).padStart(4, '0')}\n`)
    await file.close()
    expect(readdirSync(directory).sort()).toEqual(['daemon.log', 'daemon.log.1', 'daemon.log.2'])
    for (const name of readdirSync(directory)) {
      expect(statSync(join(directory, name)).size).toBeLessThanOrEqual(1010)
    }
    expect(readFileSync(join(directory, 'daemon.log'), 'utf8')).toContain('line 0500')
  })

  it('goes on where it ended, and adds the line feed that is missing', async () => {
    const path = join(directory, 'daemon.log')
    for (const line of ['one', 'two\n']) {
      const file = new LogFile(path)
      file.write(line)
      await file.close()
    }
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n')
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('a disk that hangs keeps nobody: what was said meanwhile is written when it answers, or counted', async () => {
    const path = join(directory, 'daemon.log')
    execFileSync('mkfifo', [path])
    const file = new LogFile(path)
    // Nobody reads the fifo, so that to open it hangs.
    for (let index = 0; index < 2000; index += 1) file.write('x'.repeat(1023))
    const reader = readFile(path, 'utf8')
    await file.close()
    expect((await reader).split('\n').at(-2)).toMatch(/[1-9]\d+ lines were lost/)
  })

  it('a disk that cannot be written costs lines, not the process', async () => {
    const file = new LogFile(join(directory, 'missing', 'daemon.log'))
    expect(() => file.write('lost')).not.toThrow()
    await file.close()
  })
})
