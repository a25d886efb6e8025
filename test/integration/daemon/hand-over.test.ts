import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import { eventually, gone, Place } from '../../support/daemon/place.ts'
import { describeMounted, kernelIsAtLeast } from '../../support/fuse/mounted.ts'

const exec = promisify(execFile)
const MiB = 1024 * 1024
const survives = kernelIsAtLeast(6, 9)
if (!survives) console.log('P7 across kill -9 is not tried here: the kernel is older than 6.9')

describeMounted('one worker after another on one connection', () => {
  let place: Place

  beforeEach(() => {
    place = new Place()
    place.fake = { serve: true }
  })

  afterEach(async () => {
    await place.clear()
  })

  /**
   * Copies `from` to `to` over and over, 4 KiB a call, while the worker is replaced so many times, each time once the
   * last one serves; every copy must end without an error and be what was copied.
   */
  async function copying(
    {
      from,
      to,
      compare,
    }: { readonly from: string; readonly to: string; readonly compare: readonly string[] },
    replace: (now: StatusReport) => void,
  ): Promise<void> {
    const times = 3
    const first = (await place.served()).workerStarts
    const flag = join(place.root, 'flag')
    writeFileSync(flag, '')
    const script = `while test -e "$1"; do
      dd if="$2" of="$3" bs=4k conv=notrunc oflag=dsync status=none && cmp "$4" "$5" || exit 1
    done`
    const failure = exec('sh', ['-c', script, 'sh', flag, from, to, ...compare]).then(
      () => undefined,
      (error: unknown) => error,
    )
    for (let count = 0; count < times; count += 1) {
      const now = await place.served()
      replace(now)
      await gone(now.pid)
    }
    expect((await place.served()).workerStarts).toBe(first + times)
    rmSync(flag)
    expect(await failure).toBeUndefined()
  }

  it.skipIf(!survives)('P7: kill -9 of the worker fails no read and no write of an application', async () => {
    const data = join(place.source, 'data')
    const copy = join(place.root, 'copy')
    const kill = ({ pid }: StatusReport): void => void process.kill(pid, 'SIGKILL')
    writeFileSync(data, randomBytes(2 * MiB))
    await place.mount()
    await copying({ from: `${place.target}/data`, to: copy, compare: [data, copy] }, kill)
    writeFileSync(copy, randomBytes(2 * MiB))
    await copying({ from: copy, to: `${place.target}/data`, compare: [data, copy] }, kill)
  })

  it('P7: a hand-over on SIGHUP fails no call, and the old worker finishes', async () => {
    const data = join(place.source, 'data')
    const copy = join(place.root, 'copy')
    writeFileSync(data, randomBytes(2 * MiB))
    await place.mount()
    await copying(
      { from: `${place.target}/data`, to: copy, compare: [data, copy] },
      ({ supervisorPid }) => void process.kill(supervisorPid, 'SIGHUP'),
    )
    expect(place.journal.filter((line) => line === 'stop')).toHaveLength(3)
    expect(place.log).not.toContain('the worker died')
  })

  it('P7: SIGTERM to a worker alone is a hand-over, not an end', async () => {
    await place.mount()
    const first = await place.served()
    process.kill(first.pid, 'SIGTERM')
    await gone(first.pid)
    expect((await place.served()).workerStarts).toBe(2)
    expect((await exec('cat', [`${place.target}/data`])).stdout).toBe('the legacy content\n')
  })

  it.skipIf(!survives)('P7: an unlinked file that was held outlives the workers', async () => {
    await place.mount()
    for (let count = 0; count < 2; count += 1) {
      const { pid } = await place.served()
      process.kill(pid, 'SIGKILL')
      await gone(pid)
    }
    // The fake engine counts a cache read if it found the content of the unlinked file.
    expect((await place.served()).reads.cache).toBe(1)
  })

  it('a mode changed live stays changed over workers, whatever mount was told', async () => {
    await place.mount('--mode', 'observe')
    expect(await place.ferryfs('mode', place.target)).toMatchObject({ status: 0, stdout: 'observe\n' })
    expect(await place.ferryfs('mode', place.target, 'drain')).toMatchObject({ status: 0, stdout: 'drain\n' })
    const { pid } = await place.served()
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    expect((await place.served()).mode).toBe('drain')
    expect(place.journal).toEqual(['start 1 false observe', 'start 2 true -'])
  })

  it('a migration that is waited for goes on across a killed worker', async () => {
    place.fake = { serve: true, migrationSteps: 2 }
    await place.mount()
    const waiting = place.spawn('migrate', place.target, '--wait')
    await eventually('the first progress', () => waiting.output().includes('copying: 1/2 files'))
    const { pid } = await place.served()
    process.kill(pid, 'SIGKILL')
    await gone(pid)
    writeFileSync(join(place.stateDir, 'steps'), '\n\n\n')
    const ended = await waiting.ended
    expect(ended).toMatchObject({ status: 0, stdout: 'moved 2 files, 2.0 KiB\n' })
  })

  it('status --watch goes on across a killed worker and ends with the mount', async () => {
    await place.mount()
    const watching = place.spawn('status', place.target, '--watch', '--json')
    await eventually('the first worker', () => watching.output().includes('"workerStarts":1'))
    const { pid } = await place.served()
    process.kill(pid, 'SIGKILL')
    await eventually('the second worker', () => watching.output().includes('"workerStarts":2'))
    await place.ferryfs('unmount', place.target)
    expect(await watching.ended).toMatchObject({ status: 0 })
  })

  it('a successor that cannot start is tried again, ever later, while applications wait', async () => {
    place.fake = { serve: true, failStart: 'successor' }
    await place.mount()
    const { pid, supervisorPid } = await place.served()
    process.kill(pid, 'SIGKILL')
    await eventually('a delayed start', () => /"delayMs":(250|500)/.test(place.log))
    expect(place.log).toContain('a successor cannot start')
    process.kill(supervisorPid, 'SIGTERM')
    await gone(supervisorPid)
  })
})
