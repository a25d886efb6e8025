import { execFile, spawn } from 'node:child_process'
import { closeSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { mountKernel, unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { eventually, gone, Place } from '../../support/daemon/place.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'

const exec = promisify(execFile)

describeMounted('a mount and its daemon', () => {
  let place: Place

  beforeEach(() => {
    place = new Place()
    place.fake = { serve: true }
  })

  afterEach(async () => {
    await place.clear()
  })

  it('mount returns 0 once the mount answers, leaves a daemon behind, and unmount leaves nothing', async () => {
    expect(await place.mount()).toMatchObject({ status: 0, stderr: '' })
    expect((await exec('cat', [`${place.target}/data`])).stdout).toBe('the legacy content\n')
    const status = await place.status()
    expect(status).toMatchObject({
      source: place.source,
      target: place.target,
      mode: 'mirror',
      workerStarts: 1,
      store: { url: 'embedded:' },
    })
    expect(statSync(join(place.stateDir, 'control.sock')).mode & 0o777).toBe(0o600)
    expect(await place.ferryfs('unmount', place.target)).toMatchObject({ status: 0, stderr: '' })
    expect(mountsOf(place.target)).toEqual([])
    await gone(status.supervisorPid)
    await gone(status.pid)
    expect(readdirSync(place.runDir)).toEqual([])
    expect(existsSync(join(place.stateDir, 'control.sock'))).toBe(false)
    expect(place.journal).toEqual(['start 1 false -', 'settle 30000', 'stop'])
  })

  it('a daemon keeps no directory busy and detaches from the terminal of the command', async () => {
    await place.mount()
    const { pid, supervisorPid } = await place.status()
    for (const process of [pid, supervisorPid]) {
      expect((await exec('readlink', [`/proc/${process}/cwd`])).stdout).toBe('/\n')
    }
    const session = readFileSync(`/proc/${supervisorPid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]
    expect(Number(session)).toBe(supervisorPid)
  })

  it('refuses a second mount on the same target, and the same state directory for another', async () => {
    await place.mount()
    const again = await place.mount()
    expect(again.status).toBe(2)
    expect(again.stderr).toMatch(/^ferryfs: TARGET .* is in use: ferryfs serves .*\n$/)
    const other = new Place()
    const held = await other.ferryfs('mount', other.source, other.target, '--state-dir', place.stateDir)
    expect(held.status).toBe(2)
    expect(held.stderr).toMatch(
      /^ferryfs: the state directory .* belongs to another mount: its source is .*\n$/,
    )
    await other.clear()
    expect((await place.status()).workerStarts).toBe(1)
  })

  it('with both processes killed, mount replaces the stale mount', async () => {
    await place.mount()
    const { pid, supervisorPid } = await place.status()
    process.kill(supervisorPid, 'SIGKILL')
    await gone(pid)
    const dead = await place.ferryfs('status', place.target)
    expect(dead.status).toBe(1)
    expect(dead.stderr).toMatch(/^ferryfs: the ferryfs daemon of .* is gone .*"ferryfs mount .*\n$/)
    expect(await place.mount()).toMatchObject({ status: 0, stderr: '' })
    expect(mountsOf(place.target)).toHaveLength(1)
    expect((await exec('cat', [`${place.target}/data`])).stdout).toBe('the legacy content\n')
  })

  it('with both processes killed, unmount clears up', async () => {
    await place.mount()
    const { pid, supervisorPid } = await place.status()
    process.kill(supervisorPid, 'SIGKILL')
    await gone(pid)
    expect(await place.ferryfs('unmount', place.target)).toMatchObject({ status: 0, stderr: '' })
    expect(mountsOf(place.target)).toEqual([])
    const nothing = await place.ferryfs('unmount', place.target)
    expect(nothing.status).toBe(2)
    expect(nothing.stderr).toMatch(/^ferryfs: nothing is mounted by ferryfs at /)
  })

  it('a worker ends with its supervisor even while its event loop is stuck', async () => {
    await place.mount()
    const { pid, supervisorPid } = await place.status()
    process.kill(pid, 'SIGSTOP')
    process.kill(supervisorPid, 'SIGKILL')
    await gone(pid)
  })

  it('unmount names what keeps the mount busy, changes nothing, and --force unmounts all the same', async () => {
    await place.mount()
    const user = spawn('sleep', ['60'], { cwd: place.target, stdio: 'ignore' })
    try {
      const busy = await place.ferryfs('unmount', place.target)
      expect(busy.status).toBe(1)
      expect(busy.stderr).toContain(`in use by process ${user.pid} (sleep): cwd`)
      expect(busy.stderr).toMatch(/\nferryfs: .* is in use; end what uses it, or .*--force/)
      expect((await exec('cat', [`${place.target}/data`])).stdout).toBe('the legacy content\n')
      expect(await place.ferryfs('unmount', '--force', place.target)).toMatchObject({ status: 0 })
      expect(mountsOf(place.target)).toEqual([])
      expect(place.journal.slice(-2)).toEqual(['settle 0', 'stop'])
    } finally {
      user.kill('SIGKILL')
    }
  })

  it('unmount with store work left over unmounts, says so and ends with 3', async () => {
    place.fake = { serve: true, outboxLeft: 7 }
    await place.mount('--op-timeout', '2s')
    const left = await place.ferryfs('unmount', place.target)
    expect(left.status).toBe(3)
    expect(left.stdout).toContain(`7 pieces of work for the store left: safe in ${place.stateDir}`)
    expect(mountsOf(place.target)).toEqual([])
    expect(place.journal).toContain('settle 2000')
  })

  it('SIGTERM to the supervisor settles and unmounts', async () => {
    await place.mount()
    const { supervisorPid } = await place.status()
    process.kill(supervisorPid, 'SIGTERM')
    await gone(supervisorPid)
    expect(mountsOf(place.target)).toEqual([])
    expect(place.journal.slice(-2)).toEqual(['settle 30000', 'stop'])
  })

  it('SIGTERM ends a daemon whose worker does not stop, in bounded time (P6)', async () => {
    place.fake = { serve: true, ignoreStop: true }
    await place.mount('--op-timeout', '100ms')
    const { supervisorPid } = await place.status()
    process.kill(supervisorPid, 'SIGTERM')
    await gone(supervisorPid)
    expect(mountsOf(place.target)).toEqual([])
  })

  it('an unmount from outside ends the daemon', async () => {
    await place.mount()
    const { supervisorPid } = await place.status()
    await unmountKernel(place.target)
    await gone(supervisorPid)
    expect(readdirSync(place.runDir)).toEqual([])
    expect(place.journal.at(-1)).toBe('stop')
  })

  it('--foreground stays, logs to the terminal, and SIGINT unmounts', async () => {
    const running = place.spawn(
      'mount',
      place.source,
      place.target,
      '--state-dir',
      place.stateDir,
      '--foreground',
    )
    await eventually('the mount in the foreground', () => running.output().includes('is served at'))
    const { supervisorPid } = await place.status()
    expect(supervisorPid).toBe(running.pid)
    running.kill('SIGINT')
    const ended = await running.ended
    expect(ended.status).toBe(0)
    expect(ended.stderr).toContain('"msg":"mounted"')
    expect(mountsOf(place.target)).toEqual([])
  })

  for (const [failStart, status, words] of [
    ['usage', 2, 'ferryfs: the store URL has an unknown parameter "x"\n'],
    ['store', 4, 'ferryfs: no start (no node answers)\n'],
    ['crash', 1, 'ferryfs: the worker ended (killed by SIGSEGV) before the mount answered; see the log\n'],
  ] as const) {
    it(`a start that fails (${failStart}) is one line, status ${status}, and nothing is mounted`, async () => {
      place.fake = { serve: true, failStart }
      expect(await place.mount('--store', 'riak://127.0.0.1:1')).toEqual({
        status,
        stdout: '',
        stderr: words,
      })
      expect(mountsOf(place.target)).toEqual([])
      expect(readdirSync(place.runDir)).toEqual([])
      place.fake = { serve: true }
      expect(await place.mount()).toMatchObject({ status: 0 })
    })
  }

  it('a state directory whose path is too long for a socket address works all the same', async () => {
    const long = join(place.root, 'd'.repeat(120))
    const mounted = await place.ferryfs('mount', place.source, place.target, '--state-dir', long)
    expect(mounted).toMatchObject({ status: 0, stderr: '' })
    const { supervisorPid } = await place.status()
    place.remember(supervisorPid)
    expect(await place.ferryfs('unmount', place.target)).toMatchObject({ status: 0 })
    expect(readdirSync(place.runDir)).toEqual([])
  })

  it('a target or a source that hangs is refused, not waited for', async () => {
    const hung = await mountKernel({ target: place.target, source: 'nobody serves this' })
    try {
      const target = await place.mount()
      expect(target.status).toBe(2)
      expect(target.stderr).toMatch(/^ferryfs: TARGET .* does not answer; "ferryfs unmount --force .*\n$/)
      const source = await place.ferryfs('mount', place.target, place.source, '--state-dir', place.stateDir)
      expect(source.status).toBe(2)
      expect(source.stderr).toMatch(/^ferryfs: SOURCE .* does not answer; .*\n$/)
    } finally {
      await unmountKernel(hung.target, { lazy: true })
      closeSync(hung.fd)
    }
  })
})
