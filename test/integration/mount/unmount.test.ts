import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { mountsOf } from '../../../src/fuse/kernel/mountinfo.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const run = promisify(execFile)

describeMounted('the end of a mount', () => {
  let ferry: Ferry
  const others: ChildProcess[] = []

  beforeEach(() => {
    ferry = new Ferry()
    for (let nth = 0; nth < 20; nth += 1) writeFileSync(ferry.under(`f${nth}`), pattern(50_000, nth))
  })

  afterEach(async () => {
    for (const other of others.splice(0)) other.kill('SIGKILL')
    await ferry.clear()
  })

  test('P6: a mount right after an umount(8) waits for the daemon that is ending, and is had', async () => {
    for (let round = 0; round < 3; round += 1) {
      await ferry.mount()
      await run('umount', [ferry.target])
      expect(mountsOf(ferry.target)).toEqual([])
      await ferry.mount()
      expect((await ferry.readAnew('f1')).equals(pattern(50_000, 1))).toBe(true)
      await ferry.unmount()
    }
  })

  test('P6: a rate limit and a verify do not hold up an unmount, and the next mount goes on', async () => {
    await ferry.mount('--op-timeout', '60s')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.unmount()
    for (let nth = 0; nth < 5; nth += 1) writeFileSync(ferry.under(`g${nth}`), pattern(50_000, nth))
    await ferry.mount('--op-timeout', '60s')
    const verify = ferry.ferryfs('verify', ferry.target)
    await ferry.done('migrate', ferry.target, '--rate', '1')
    const began = performance.now()
    const { status } = await ferry.ferryfs('unmount', ferry.target)
    expect([0, 3]).toContain(status)
    // The rate asks for a day, and what is left for the store may take a minute.
    expect(performance.now() - began).toBeLessThan(20_000)
    await verify
    await ferry.mount()
    await ferry.done('migrate', ferry.target, '--rate', '0', '--wait')
    await ferry.settled()
  })

  test('P6: unmount names users of the mount in other mount namespaces, and leaves it to them', async () => {
    await ferry.mount()
    const script = `cd ${ferry.target} && exec sleep 60`
    const user = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', script], { stdio: 'ignore' })
    others.push(user)
    await ferry.eventually('the user is in', async () => {
      const { stdout } = await run('readlink', [`/proc/${user.pid}/cwd`])
      return stdout.trim() === ferry.target
    })
    const busy = await ferry.ferryfs('unmount', ferry.target)
    expect(busy.status).toBe(1)
    expect(busy.stderr).toContain(`in use by process ${user.pid} (sleep): cwd (in another mount namespace)`)
    expect((await run('ls', [`/proc/${user.pid}/cwd/`])).stdout).toContain('f1')
    user.kill('SIGKILL')
    await ferry.eventually(
      'the user is out',
      async () => (await ferry.ferryfs('unmount', ferry.target)).status === 0,
    )
  })
})
