import { spawn } from 'node:child_process'
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
  rmSync,
} from 'node:fs'
import { createHash } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compareTrees } from '../../support/posix/compare-trees.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'
import { hasProgram } from '../../support/posix/run-program.ts'

const MiB = 1 << 20
const LONG = process.env.FERRYFS_LONG === '1'

describeMounted('migrate and what follows it', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** A tree with everything that the product names, on the legacy volume. */
  async function makeTree(files: number): Promise<void> {
    const { call } = ferry
    mkdirSync(ferry.under('a/b'), { recursive: true })
    for (let n = 0; n < files; n += 1)
      writeFileSync(ferry.under(`${n % 3 === 0 ? 'a' : 'a/b'}/file-${n}`), pattern(1 + n * 700, n))
    writeFileSync(ferry.under('large'), pattern(3 * MiB + 1, 77))
    writeFileSync(ferry.under('empty'), '')
    await call.link(ferry.under('large'), ferry.under('a/second name of large'))
    await call.symlink('../large', ferry.under('a/link'))
    await call.symlink('nowhere', ferry.under('dangling'))
    await call.chown(ferry.under('a/b'), 4101, 4201)
    await call.chmod(ferry.under('empty'), 0o4711)
    await call.setxattr(ferry.under('empty'), 'user.colour', 'blue')
    for (const name of ['a/b', 'a', 'large', 'empty'])
      await call.utimens(ferry.under(name), 1_000_000_000_000_000_001n, 1_200_000_000_123_456_789n)
    await call.lutimens(ferry.under('dangling'), 7n, 1_300_000_000_000_000_007n)
  }

  test('P2, P4: beside a writer migrate --wait ends with 0, and mode --wait has the mode once nothing is owed', async () => {
    await makeTree(40)
    await ferry.mount('--mode', 'mirror')
    const kept = ferry.under('a')
    const before = await ferry.call.snapshot(kept)
    // With pauses longer than a sync of a slow disk takes: a file that never rests is not in the store, and `migrate` says so.
    const writer = spawn('sh', ['-c', 'while date +%N; do sleep 0.2; done > "$0"/log', ferry.target], {
      stdio: 'ignore',
    })
    try {
      await ferry.eventually('something is written', async () => existsSync(ferry.under('log')))
      const moved = await ferry.ferryfs('migrate', ferry.target, '--wait')
      expect(moved.status, moved.stdout + moved.stderr).toBe(0)
      const waiting = ferry.ferryfs('mode', ferry.target, 'store-only', '--wait')
      await ferry.until('waiting', ({ migration }) => migration.state !== 'running')
      writer.kill('SIGKILL')
      expect(await waiting).toMatchObject({ status: 0, stdout: 'store-only\n' })
    } finally {
      writer.kill('SIGKILL')
    }
    expect(compareTrees(before, await ferry.call.snapshot(ferry.at('a')))).toEqual([])
  })

  test('P3, P5: all of it moves with every attribute; verify, status, restore and rebuild agree on it', async () => {
    await makeTree(40)
    const before = await ferry.call.snapshot(ferry.source)
    await ferry.mount('--mode', 'drain', '--namespace', 'tree')
    const moved = await ferry.ferryfs('migrate', ferry.target, '--wait')
    expect(moved.status, moved.stdout + moved.stderr).toBe(0)
    expect(moved.stdout).toMatch(/^moved \d+ files, [\d.]+ MiB\n$/)
    expect(moved.stderr).not.toContain('\u001b')
    const left = readdirSync(ferry.source, { recursive: true, withFileTypes: true }).filter(
      (e) => !e.isDirectory(),
    )
    expect(left).toEqual([])
    expect(compareTrees(before, await ferry.call.snapshot(ferry.target))).toEqual([])
    await ferry.mode('store-only')
    expect(compareTrees(before, await ferry.call.snapshot(ferry.target))).toEqual([])
    expect(await ferry.done('verify', ferry.target)).toMatch(/^read \d+ files, .*: all as they should be\n$/)
    const report: unknown = JSON.parse(await ferry.done('status', ferry.target, '--json'))
    expect(report).toMatchObject({
      mode: 'store-only',
      source: ferry.source,
      target: ferry.target,
      store: { url: 'embedded:', healthy: true },
      files: { pending: 0, dirty: 0, failed: 0 },
      outbox: { length: 0, oldestSeconds: 0 },
      migration: { state: 'done', bytesPerSecond: 0, etaSeconds: null },
      failures: [],
    })
    expect(await ferry.done('status', ferry.target)).toMatch(/^mount .*\nmode +store-only\n/)
    const restored = `${ferry.root}/restored`
    expect(await ferry.done('restore', ferry.target, restored)).toMatch(/^restored \d+ files/)
    expect(compareTrees(before, await ferry.call.snapshot(restored))).toEqual([])
    await ferry.unmount()
    // The catalog is lost: the store alone has to do.
    for (const suffix of ['', '-wal', '-shm'])
      rmSync(`${ferry.stateDir}/catalog.db${suffix}`, { force: true })
    const store = `embedded:${ferry.stateDir}/store`
    const rebuilt = `${ferry.root}/rebuilt`
    const identity = ['--store', store, '--namespace', 'tree', '--state-dir', rebuilt]
    expect(await ferry.done('rebuild', ...identity)).toMatch(/^rebuilt \d+ files in \d+ directories/)
    await ferry.done('mount', ferry.source, ferry.target, ...identity)
    expect(compareTrees(before, await ferry.call.snapshot(ferry.target))).toEqual([])
    await ferry.call.writeFile(ferry.at('a/new'), 'life goes on')
    await ferry.remount(...identity)
    expect((await ferry.call.readFile(ferry.at('a/new'))).toString()).toBe('life goes on')
    expect(await ferry.done('doctor', '--store', 'memory:')).not.toBe('')
    await ferry.unmount()
  })

  test('P6: --rate holds it back, --pause stops it, --resume and a new rate let it go on, a kill forgets nothing', async () => {
    for (let n = 0; n < 30; n += 1) writeFileSync(ferry.under(`file-${n}`), pattern(100_000, n))
    await ferry.mount('--mode', 'mirror')
    await ferry.done('migrate', ferry.target, '--rate', '300KB/s', '--concurrency', '2')
    await ferry.until('the first files', ({ files }) => files.stored > 0)
    expect(await ferry.done('migrate', ferry.target, '--pause')).toBe('the migration is paused\n')
    const paused = await ferry.until('a pause', ({ migration }) => migration.state === 'paused')
    expect(paused.files.stored).toBeLessThan(30)
    await ferry.killWorker()
    expect((await ferry.status()).migration.state).toBe('paused')
    await ferry.remount()
    expect((await ferry.status()).migration.state).toBe('paused')
    const waiting = ferry.ferryfs('migrate', ferry.target, '--wait', '--rate', '0')
    expect(await ferry.done('migrate', ferry.target, '--resume')).toBe('the migration goes on\n')
    expect(await waiting).toMatchObject({ status: 0 })
    const { files, migration } = await ferry.status()
    expect({ stored: files.stored, state: migration.state }).toEqual({ stored: 30, state: 'done' })
  })

  test('P6: progress is plain lines in a pipe and a bar on a terminal', async () => {
    for (let n = 0; n < 12; n += 1) writeFileSync(ferry.under(`file-${n}`), pattern(100_000, n))
    await ferry.mount('--mode', 'mirror')
    const piped = await ferry.ferryfs('migrate', ferry.target, '--wait', '--rate', '400KB')
    expect(piped.status).toBe(0)
    expect(piped.stderr).toMatch(/^(\w+: \d+\/\d+ files, [^\n]+\n)+$/)
    if (!(await hasProgram('script'))) return console.log('no bar is tried: script(1) is missing')
    const [command, line] = ferry.line('verify', ferry.target)
    const quoted = [command, ...line].map((word) => `'${word}'`).join(' ')
    const shown = await ferry.run(
      'env',
      `FERRYFS_RUN_DIR=${ferry.root}/run`,
      'script',
      '-qec',
      quoted,
      '/dev/null',
    )
    expect(shown).toContain('\u001b[')
    expect(shown).toMatch(/verifying .*% \d+\/\d+ files/)
    expect(shown).toMatch(/read 12 files, 1\.1 MiB: all as they should be/)
  })

  test('P1: status --watch shows one state after the other and ends when the mount does', async () => {
    await ferry.mount()
    const [command, line] = ferry.line('status', ferry.target, '--watch', '--json')
    const child = spawn(command, line, { env: ferry.environment, stdio: ['ignore', 'pipe', 'pipe'] })
    ferry.watch(child)
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    const ended = new Promise((resolve) => child.once('close', resolve))
    await ferry.eventually('two reports', () => Promise.resolve(text.split('\n').length > 2))
    await ferry.mode('prefer-store')
    await ferry.eventually('the new mode', () => Promise.resolve(text.includes('"mode":"prefer-store"')))
    await ferry.unmount()
    expect(await ended).toBe(0)
  })

  test('P1: the mode changes under open files, readers and writers without an error or a wrong byte', async () => {
    const body = pattern(6 * MiB, 5)
    writeFileSync(ferry.under('read'), body)
    writeFileSync(ferry.under('written'), body)
    await ferry.mount('--mode', 'observe')
    const { call } = ferry
    const kept = await call.open(ferry.at('written'), 2)
    const script = `
      set -eu
      cd "$1"
      for i in $(seq 1 40); do
        sha256sum read >> sums
        printf '%s\\n' $i >> log
        dd if=read of=copy-$i bs=100k 2>/dev/null
        cmp read copy-$i
        if [ $i -gt 2 ]; then mv copy-$i copy-last; fi
      done
    `
    let over = false
    const work = ferry.run('bash', '-c', script, 'bash', ferry.target).finally(() => {
      over = true
    })
    const modes = ['mirror', 'prefer-store', 'mirror', 'observe', 'mirror', 'prefer-store', 'drain']
    for (const [n, mode] of modes.entries()) {
      await ferry.mode(mode)
      await call.write(kept, `in ${mode}.`, n * MiB - (n === 0 ? 0 : 4))
    }
    while (!over) {
      // store-only is refused while a file is on its way, and that must harm nobody either.
      await ferry.ferryfs('mode', ferry.target, 'store-only')
      await ferry.ferryfs('mode', ferry.target, 'drain')
    }
    await work
    for (const [n, mode] of modes.entries()) {
      const expected = `in ${mode}.`
      const at = n * MiB - (n === 0 ? 0 : 4)
      expect((await call.read(kept, expected.length, at)).toString()).toBe(expected)
    }
    await call.close(kept)
    const sums = (await call.readFile(ferry.at('sums'))).toString()
    const expected = createHash('sha256').update(body).digest('hex')
    expect(new Set(sums.trimEnd().split('\n'))).toEqual(new Set([`${expected}  read`]))
    const log = (await call.readFile(ferry.at('log'))).toString()
    expect(log).toBe(Array.from({ length: 40 }, (_, i) => `${i + 1}\n`).join(''))
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    await ferry.remount()
    expect((await ferry.readAnew('read')).equals(body)).toBe(true)
    expect((await ferry.readAnew('copy-last')).equals(body)).toBe(true)
  })

  test(
    `P6: a migration of ${LONG ? '4 GiB' : '256 MiB'} in one file stays within bounded memory`,
    async () => {
      const [size, bound] = LONG ? [4096, 300] : [256, 200]
      const file = openSync(ferry.under('huge'), 'w')
      const part = pattern(MiB, 1)
      for (let n = 0; n < size; n += 1) {
        // Every eighth a hole: what is sparse stays so.
        if (n % 8 === 7) continue
        part.writeUInt32LE(n, 0)
        writeSync(file, part, 0, MiB, n * MiB)
      }
      ftruncateSync(file, size * MiB)
      closeSync(file)
      await ferry.mount('--mode', 'drain')
      await ferry.done('migrate', ferry.target, '--wait')
      const { pid, files } = await ferry.status()
      expect(files.drained).toBe(1)
      const fd = await ferry.call.open(ferry.at('huge'), 0)
      for (let n = 0; n < size; n += 17) {
        const start = await ferry.call.read(fd, 4, n * MiB)
        expect(Buffer.from(start).readUInt32LE()).toBe(n % 8 === 7 ? 0 : n)
      }
      await ferry.call.close(fd)
      expect(peakMiB(pid)).toBeLessThan(bound)
    },
    LONG ? 1_800_000 : 60_000,
  )
})

/** VmHWM: the most that a process ever had resident. */
function peakMiB(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1] ?? Number.NaN) / 1024
}
