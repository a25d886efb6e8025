import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gone } from '../../support/daemon/place.ts'
import { describeMounted, kernelIsAtLeast, whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const MiB = 1 << 20
const [LOCK_EX, LOCK_NB] = [2, 4]
// After more quick deaths in a row the supervisor takes its time (restartDelay).
const KILLS = 5
const survives = kernelIsAtLeast(6, 9)
if (!survives) console.log('P7 is not tried here: this kernel is older than 6.9')

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

describe.skipIf(!survives || whyNoMount() !== undefined)('kill -9 of the worker', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Kills the worker again and again, each time when the work has come so much further. */
  async function killDuring<T>(work: Promise<T>, progress: (kill: number) => Promise<boolean>): Promise<T> {
    let over = false
    const done = work.finally(() => {
      over = true
    })
    // Whoever fails first is reported; the other is not left unheard.
    done.catch(() => undefined)
    for (let kill = 0; kill < KILLS && !over; kill += 1) {
      await ferry.eventually('progress', async () => over || (await progress(kill)))
      await ferry.killWorker()
    }
    return done
  }

  test.each(['mirror', 'drain', 'store-only'])(
    'P7: in %s readers, writers, tar and directory streams see nothing of it, and every byte is right',
    async (mode) => {
      mkdirSync(ferry.under('tree'))
      for (let n = 0; n < 60; n += 1) writeFileSync(ferry.under(`tree/file-${n}`), pattern(1000 + n * 997, n))
      writeFileSync(ferry.under('large'), pattern(24 * MiB, 99))
      await ferry.mount('--mode', mode === 'store-only' ? 'drain' : mode)
      if (mode === 'store-only') {
        await ferry.done('migrate', ferry.target, '--wait')
        await ferry.mode(mode)
      }
      const script = `
        set -eu
        cd "$1"
        mkdir made
        sha256sum < large > sum-1 &
        reader=$!
        tar -cf "$2/first.tar" tree &
        archiver=$!
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
          dd if=/dev/zero of=made/zero-$i bs=64k count=8 oflag=dsync 2>/dev/null
          printf 'line %s\\n' $i >> made/log
          mv made/zero-$i made/moved-$i
          ln made/moved-$i made/link-$i
          ls -l tree > /dev/null
        done &
        writer=$!
        for worker in $reader $archiver $writer; do wait $worker; done
        mkdir out
        tar -xf "$2/first.tar" -C out
        diff -r tree out/tree
        sha256sum < large > sum-2
        cmp sum-1 sum-2
        rm -r out
      `
      const log = ferry.at('made/log')
      await killDuring(ferry.run('bash', '-c', script, 'bash', ferry.target, ferry.root), async (kill) => {
        const text = await ferry.call.readFile(log).catch(() => '')
        return text.toString().split('\n').length > 2 * kill
      })
      const expected = sha256(pattern(24 * MiB, 99))
      expect((await ferry.call.readFile(ferry.at('sum-1'))).toString()).toBe(`${expected}  -\n`)
      const lines = (await ferry.call.readFile(ferry.at('made/log'))).toString()
      expect(lines).toBe(Array.from({ length: 12 }, (_, i) => `line ${i + 1}\n`).join(''))
      const names = await ferry.call.names(ferry.at('made'))
      expect(names).toHaveLength(25)
      for (let n = 1; n <= 12; n += 1) {
        const stat = await ferry.call.stat(ferry.at(`made/moved-${n}`))
        expect(stat).toMatchObject({ size: 8 * 65_536, nlink: 2 })
        expect((await ferry.call.stat(ferry.at(`made/link-${n}`))).ino).toBe(stat.ino)
      }
      expect((await ferry.status()).workerStarts).toBeGreaterThan(3)
    },
  )

  test.each(['mirror', 'drain'])(
    'P7: in %s files without a name, positions in a directory, locks and mappings live on',
    async (mode) => {
      const body = pattern(3 * MiB, 7)
      writeFileSync(ferry.under('to unlink'), body)
      mkdirSync(ferry.under('many'))
      for (let n = 0; n < 300; n += 1) writeFileSync(ferry.under(`many/file-${n}`), '')
      await ferry.mount('--mode', mode)
      const { call } = ferry
      const other = ferry.as(null).call
      const nameless = await call.open(ferry.at('to unlink'), 2)
      const made = await call.open(ferry.at('made'), 0o102)
      await call.write(made, body, 0)
      await call.unlink(ferry.at('to unlink'))
      await call.unlink(ferry.at('made'))
      await call.writeFile(ferry.at('locked'), '')
      const locked = await call.open(ferry.at('locked'), 2)
      await call.flock(locked, LOCK_EX)
      await call.lock(locked, { type: 'write', start: 10, length: 5 })
      const directory = await call.open(ferry.at('many'), 0)
      const seen = (await call.readEntries(directory, 2000)).map(({ name }) => name.toString())
      for (let kill = 0; kill < 3; kill += 1) {
        await ferry.killWorker()
        for (const fd of [nameless, made]) {
          await call.dropCache(fd)
          expect((await call.fstat(fd)).nlink).toBe(0)
          const at = kill * MiB + 5
          expect(Buffer.from(await call.read(fd, 5000, at)).equals(body.subarray(at, at + 5000))).toBe(true)
          await call.write(fd, `kill ${kill}`, MiB * 4 + kill * 10)
          await call.fsync(fd)
        }
        const rival = await other.open(ferry.at('locked'), 2)
        await expect(other.flock(rival, LOCK_EX | LOCK_NB)).rejects.toThrow('EAGAIN')
        await expect(other.lock(rival, { type: 'write', start: 12, length: 1 })).rejects.toThrow(
          /EAGAIN|EACCES/,
        )
        await other.lock(rival, { type: 'write', start: 20, length: 1 })
        await other.close(rival)
        const more = await call.readEntries(directory, 2000)
        seen.push(...more.map(({ name }) => name.toString()))
      }
      for (;;) {
        const more = await call.readEntries(directory, 8000)
        if (more.length === 0) break
        seen.push(...more.map(({ name }) => name.toString()))
      }
      expect(seen.filter((name) => name.startsWith('file-')).sort()).toEqual(
        Array.from({ length: 300 }, (_, n) => `file-${n}`).sort(),
      )
      for (const fd of [nameless, made]) {
        expect(Buffer.from(await call.read(fd, 26, MiB * 4)).toString()).toBe(
          'kill 0\0\0\0\0kill 1\0\0\0\0kill 2',
        )
        await call.close(fd)
      }
      await call.close(locked)
      const rival = await other.open(ferry.at('locked'), 2)
      await other.flock(rival, LOCK_EX | LOCK_NB)
      await other.close(rival)
    },
  )

  test('P7: a mode change, a migration and a restore begun before it are asked for again', async () => {
    mkdirSync(ferry.under('tree'))
    for (let n = 0; n < 200; n += 1) writeFileSync(ferry.under(`tree/file-${n}`), pattern(20_000, n))
    await ferry.mount('--mode', 'drain')
    const migrating = ferry.done('migrate', ferry.target, '--wait', '--concurrency', '2')
    await killDuring(migrating, async (kill) => (await ferry.status()).files.stored > kill * 30)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.mode('store-only')
    const restored = `${ferry.root}/restored`
    await ferry.done('restore', ferry.target, restored)
    for (let n = 0; n < 200; n += 1)
      expect(readFileSync(`${restored}/tree/file-${n}`).equals(pattern(20_000, n))).toBe(true)
  })
})

describeMounted('the end of both processes', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test.each(['mirror', 'prefer-store', 'drain', 'store-only'])(
    'P2: in %s what was acknowledged is there after kill -9 of both, and reaches the store',
    async (mode) => {
      await ferry.mount('--mode', mode)
      const { call } = ferry
      const contents = new Map<string, Buffer>()
      await call.mkdir(ferry.at('directory'))
      for (let n = 0; n < 20; n += 1) {
        const body = pattern(n * 50_000, n)
        await call.writeFile(ferry.at(`directory/file-${n}`), body)
        contents.set(`directory/file-${n}`, body)
      }
      await call.rename(ferry.at('directory/file-3'), ferry.at('renamed'))
      const renamed = contents.get('directory/file-3')
      if (renamed) contents.set('renamed', renamed)
      contents.delete('directory/file-3')
      await call.unlink(ferry.at('directory/file-4'))
      contents.delete('directory/file-4')
      // Closed and killed at once: nothing has had the time to reach the store.
      await ferry.killBoth()
      await expect(call.stat(ferry.at('directory'))).rejects.toThrow('ENOTCONN')
      await ferry.mount()
      expect((await call.names(ferry.at('directory'))).sort()).toEqual(
        [...contents.keys()]
          .filter((name) => name !== 'renamed')
          .map((name) => name.slice(10))
          .sort(),
      )
      for (const [name, body] of contents) expect((await ferry.readAnew(name)).equals(body), name).toBe(true)
      await ferry.settled()
      await ferry.done('migrate', ferry.target, '--wait')
      const verified = await ferry.ferryfs('verify', ferry.target)
      expect(verified.status, verified.stdout).toBe(0)
      expect((await ferry.status()).mode).toBe(mode)
    },
  )

  test('P2: SIGTERM to the supervisor unmounts, with everything settled', async () => {
    await ferry.mount('--mode', 'drain')
    await ferry.call.writeFile(ferry.at('file'), 'acknowledged')
    const { pid, supervisorPid } = await ferry.status()
    process.kill(supervisorPid, 'SIGTERM')
    await gone(supervisorPid)
    await gone(pid)
    expect(await ferry.call.names(ferry.target)).toEqual([])
    await ferry.mount()
    const { files, outbox } = await ferry.status()
    expect({ stored: files.stored, owed: outbox.length }).toEqual({ stored: 1, owed: 0 })
    expect((await ferry.call.readFile(ferry.at('file'))).toString()).toBe('acknowledged')
  })

  test('P6: --foreground serves until Ctrl-C, then unmounts', async () => {
    writeFileSync(ferry.under('file'), 'legacy')
    const [command, line] = ferry.line(
      'mount',
      ferry.source,
      ferry.target,
      '--state-dir',
      ferry.stateDir,
      '--foreground',
    )
    const child = spawn(command, line, { cwd: ferry.root, env: ferry.environment, stdio: 'ignore' })
    ferry.watch(child)
    await ferry.eventually('the mount', () =>
      ferry.call.readFile(ferry.at('file')).then(
        () => true,
        () => false,
      ),
    )
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGINT')
    expect(await ended).toBe(0)
    expect(await ferry.call.names(ferry.target)).toEqual([])
  })
})
