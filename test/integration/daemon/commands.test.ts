import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, Place } from '../../support/daemon/place.ts'

// Nothing is mounted: the commands and the control socket are tried with a daemon whose engine serves nothing.
describe('commands against a running daemon', () => {
  const failures = [{ path: 'a/b', reason: 'it changes faster than it can be read' }]
  let place: Place
  let supervisor: ReturnType<Place['spawn']>

  beforeAll(async () => {
    place = new Place()
    place.fake = { failures, differences: 2 }
    supervisor = place.daemonWithoutMount()
    await place.served()
  })

  afterAll(async () => {
    supervisor.kill('SIGTERM')
    await supervisor.ended
    await place.clear()
  })

  it('status is a table with the failures, and JSON with the names that other tools rely on', async () => {
    const table = await place.ferryfs('status', place.target)
    expect(table.status).toBe(0)
    expect(table.stdout).toContain('bytes      3.0 KiB of 4.0 KiB stored (75%)')
    expect(table.stdout).toContain('queue      1 waiting for the store, the oldest for 1m 30s')
    expect(table.stdout).toContain('failed  a/b: it changes faster than it can be read')
    const status = await place.status()
    expect(status).toMatchObject({
      pid: expect.any(Number),
      supervisorPid: expect.any(Number),
      mode: 'mirror',
      source: place.source,
      target: place.target,
      store: { url: 'embedded:', healthy: true },
      files: { total: 4, stored: 3, pending: 1, dirty: 0, failed: 1 },
      bytes: { total: 4096, stored: 3072 },
      outbox: { length: 1, oldestSeconds: 90 },
      migration: { state: 'idle', bytesPerSecond: 0, etaSeconds: null },
      failures,
    })
  })

  it('finds the mount by a relative path, a trailing slash and a symlink', async () => {
    for (const name of ['target', './target/', 'source/../target']) {
      expect(await place.ferryfs('mode', name)).toMatchObject({ status: 0, stdout: 'mirror\n' })
    }
  })

  it('a mode that is refused ends with 3 and says why', async () => {
    expect(await place.ferryfs('mode', place.target, 'store-only')).toEqual({
      status: 3,
      stdout: '',
      stderr: 'ferryfs: 1 file is not in the store yet; "ferryfs migrate" moves it\n',
    })
  })

  it('an unknown mode ends with 2 and lists the five', async () => {
    expect(await place.ferryfs('mode', place.target, 'fast')).toEqual({
      status: 2,
      stdout: '',
      stderr: 'ferryfs: mode is "fast"; allowed: observe, mirror, prefer-store, drain, store-only\n',
    })
  })

  it('a migration with a failed file is never done: 3, and the file is listed', async () => {
    const ended = await place.ferryfs(
      'migrate',
      place.target,
      '--wait',
      '--rate',
      '10MiB/s',
      '--concurrency',
      '4',
    )
    expect(ended.status).toBe(3)
    expect(ended.stdout).toBe(
      'moved 2 files, 2.0 KiB\nfailed  a/b: it changes faster than it can be read\n' +
        'not done: 1 file not in the store, 1 failed\n',
    )
    expect(ended.stderr).toContain('copying: 1/2 files, 1.0 KiB of 2.0 KiB, 1.0 KiB/s, 1s left')
  })

  it('migrate without --wait starts and returns; --pause and --resume steer it', async () => {
    expect(await place.ferryfs('migrate', place.target)).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('the migration runs; follow it with "ferryfs status'),
    })
    expect(await place.ferryfs('migrate', place.target, '--pause')).toMatchObject({ status: 0 })
    expect((await place.status()).migration.state).toBe('paused')
    expect(await place.ferryfs('migrate', place.target, '--resume')).toMatchObject({ status: 0 })
    expect((await place.status()).migration.state).toBe('idle')
  })

  it('a migration that the mode does not allow ends with 3, also without --wait', async () => {
    await place.ferryfs('mode', place.target, 'observe')
    for (const flags of [[], ['--wait']]) {
      expect(await place.ferryfs('migrate', place.target, ...flags)).toEqual({
        status: 3,
        stdout: '',
        stderr: 'ferryfs: in mode observe nothing is copied\n',
      })
    }
    await place.ferryfs('mode', place.target, 'mirror')
  })

  it('verify ends with 3 when there are differences and lists them', async () => {
    const ended = await place.ferryfs('verify', place.target)
    expect(ended.status).toBe(3)
    expect(ended.stdout).toContain('corrupt     file-1: its checksum does not hold\n')
    expect(ended.stdout).toContain('read 3 files, 3.0 KiB: 2 differences\n')
    const json = await place.ferryfs('verify', place.target, '--json')
    expect(json.status).toBe(3)
    expect(JSON.parse(json.stdout).differences).toHaveLength(2)
  })

  it('restore refuses a destination in the mount, the source or the state, and reports what it could not write', async () => {
    for (const inside of [place.target, join(place.source, 'x'), place.stateDir]) {
      const refused = await place.ferryfs('restore', place.target, inside)
      expect(refused.status).toBe(2)
      expect(refused.stderr).toMatch(/^ferryfs: DEST .* lie one in the other; give a directory elsewhere\n$/)
    }
    const ended = await place.ferryfs('restore', place.target, 'elsewhere')
    expect(ended.status).toBe(3)
    expect(ended.stdout).toBe(
      'missing  a-b: it changes faster than it can be read\n' +
        `restored 3 files, 3.0 KiB, to ${join(place.root, 'elsewhere')}\n` +
        '1 missing: DEST stays closed to others (0700). The same command again tries those again; with --accept-missing it opens DEST as it is\n',
    )
  })

  it('the control socket takes no nonsense and stays up', async () => {
    const say = (text: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let answer = ''
        const socket = connect(join(place.stateDir, 'control.sock'), () => socket.write(text))
        socket.setEncoding('utf8').on('data', (part: string) => {
          answer += part
        })
        socket.once('close', () => resolve(answer))
        socket.once('error', reject)
      })
    expect(await say('hello\n')).toContain('the request is not one line of JSON')
    expect(await say('{"command":"drop-everything"}\n')).toContain('the request is not understood')
    expect(await say('{"command":"mode","mode":"fast"}\n')).toContain('the request is not understood')
    expect(await say(`"${'x'.repeat(70_000)}`)).toContain('the request is not one line of JSON')
    expect((await place.status()).workerStarts).toBe(1)
  })

  it('metrics are served on loopback when asked for', async () => {
    const other = new Place()
    writeFileSync(join(other.root, 'config.json'), JSON.stringify({ metricsListen: '127.0.0.1:0' }))
    mkdirSync(other.runDir)
    const running = other.daemonWithoutMount('--config', join(other.root, 'config.json'))
    try {
      await other.served()
      const port = await eventually('the port', () => /"metricsPort":(\d+)/.exec(running.output())?.[1])
      const answer = await fetch(`http://127.0.0.1:${port}/metrics`)
      expect(answer.status).toBe(200)
      expect(await answer.text()).toBe('fake_worker_starts 1\n')
      expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(404)
    } finally {
      running.kill('SIGTERM')
      await running.ended
      await other.clear()
    }
  })
})
