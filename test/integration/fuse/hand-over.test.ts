import { createHash, randomBytes } from 'node:crypto'
import { closeSync, mkdirSync, mkdtempSync, promises as fs, rmSync } from 'node:fs'
import { release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { mountKernel, mountsOf, unmountKernel } from '../../../src/fuse/index.ts'
import { kernelIsAtLeast, run, shell, whyNoMount } from '../../support/fuse/mounted.ts'
import { Supervisor } from '../../support/fuse/supervisor.ts'

const reason =
  whyNoMount() ??
  (kernelIsAtLeast(6, 9) ? undefined : `Linux ${release()} does not send requests again; 6.9 does`)
if (reason) console.log(`hand-over between workers is not tried here: ${reason}`)

async function supervised() {
  const directory = mkdtempSync(join(tmpdir(), 'ferryfs-hand-over-'))
  const root = join(directory, 'root')
  const target = join(directory, 'target')
  mkdirSync(root)
  mkdirSync(target)
  const mount = await mountKernel({ target, source: 'hand-over', fsname: 'ferryfs-test' })
  const supervisor = new Supervisor(mount.fd, root)
  onTestFinished(async () => {
    if (mountsOf(mount.target).length > 0) await unmountKernel(mount.target, { lazy: true })
    supervisor.close()
    closeSync(mount.fd)
    rmSync(directory, { recursive: true, force: true })
  })
  await supervisor.start()
  return { root, target: mount.target, supervisor }
}

/** Kills the worker again and again until the work is done; whatever the work does must not notice. */
async function killDuring<T>(supervisor: Supervisor, work: Promise<T>, everyRequests: number): Promise<T> {
  let working = true
  const over = work.then(
    () => {
      working = false
    },
    () => {
      working = false
    },
  )
  while (working) await supervisor.killAfter(everyRequests, over)
  return work
}

describe.skipIf(reason !== undefined)('P7: a connection outlives its workers', () => {
  it('reading 256 MiB through kill -9 after kill -9, no error and equal sums', async () => {
    const { root, target, supervisor } = await supervised()
    const content = Buffer.concat(Array.from({ length: 256 }, () => randomBytes(1024 * 1024)))
    await fs.writeFile(join(root, 'file'), content)
    const sum = createHash('sha256').update(content).digest('hex')
    const found = await killDuring(
      supervisor,
      shell('dd if="$1" bs=1M status=none | sha256sum', join(target, 'file')),
      30,
    )
    expect(found).toContain(sum)
    expect(supervisor.starts).toBeGreaterThan(4)
    expect(supervisor.resent).toBeGreaterThan(0)
    expect(supervisor.problems).toEqual([])
  })

  it('P2: dd oflag=dsync through kill -9 after kill -9, no error and equal sums', async () => {
    const { root, target, supervisor } = await supervised()
    const source = join(root, '..', 'source')
    await fs.writeFile(source, randomBytes(64 * 1024 * 1024))
    await killDuring(
      supervisor,
      run('dd', `if=${source}`, `of=${join(target, 'file')}`, 'bs=256k', 'oflag=dsync', 'status=none'),
      60,
    )
    await run('cmp', source, join(root, 'file'))
    expect(supervisor.starts).toBeGreaterThan(4)
    expect(supervisor.resent).toBeGreaterThan(0)
    expect(supervisor.problems).toEqual([])
  })

  it('files come and go through kill -9 after kill -9', async () => {
    const { target, supervisor } = await supervised()
    await killDuring(
      supervisor,
      shell(
        'cd "$1"; for i in $(seq 100); do echo $i > f$i; test "$(cat f$i)" = $i; rm f$i; done; ls',
        target,
      ),
      150,
    )
    expect(supervisor.starts).toBeGreaterThan(4)
    expect(supervisor.problems).toEqual([])
  })

  it('an orderly replacement under load loses nothing and repeats nothing', async () => {
    const { root, target, supervisor } = await supervised()
    await fs.writeFile(join(root, 'file'), randomBytes(64 * 1024 * 1024))
    const reading = run('cmp', join(root, 'file'), join(target, 'file'))
    for (let i = 0; i < 3; i++) await supervisor.replace()
    await reading
    expect(supervisor.resent).toBe(0)
    expect(supervisor.problems).toEqual([])
  })

  it('callers that come while there is no worker wait for the next one', async () => {
    const { root, target, supervisor } = await supervised()
    await fs.writeFile(join(root, 'file'), 'content')
    await supervisor.stop()
    const reading = run('cat', join(target, 'file'))
    await supervisor.start()
    expect(await reading).toBe('content')
  })

  it('the worker notices the unmount', async () => {
    const { target, supervisor } = await supervised()
    await unmountKernel(target)
    await expect.poll(() => supervisor.ended).toBe('unmounted')
  })
})
