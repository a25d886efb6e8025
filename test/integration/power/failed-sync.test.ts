import { afterEach, expect, test } from 'vitest'
import { pattern } from '../../support/mount/pattern.ts'
import { O_CREAT, O_WRONLY } from '../../support/posix/constants.ts'
import { describeForgetful, ForgetfulFerry } from '../../support/power/forgetful-ferry.ts'

let power: ForgetfulFerry

afterEach(async () => {
  await power.ferry.clear()
})

const bodyOf = (name: string): Buffer => pattern(9000 + name.length, name.charCodeAt(0))

/** Writes and syncs a file; the name of the errno where it fails. */
async function put(name: string): Promise<string | undefined> {
  const { call } = power.ferry
  const file = await call.open(power.ferry.at(name), O_WRONLY | O_CREAT)
  try {
    await call.write(file, bodyOf(name))
    await call.fsync(file)
    return undefined
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  } finally {
    await call.close(file)
  }
}

describeForgetful('P2: after a sync that failed, what fsync acknowledges is there after a power loss', () => {
  test.each([
    ['the catalog, in drain', 'drain', 'catalog.db-wal'],
    ['the catalog, in mirror', 'mirror', 'catalog.db-wal'],
    ['a staging file', 'drain', '/staging/'],
    ["the embedded store's index", 'drain', 'index.sqlite-wal'],
  ])('of %s', async (_, mode, what) => {
    power = new ForgetfulFerry([
      'catalog.db',
      'catalog.db-wal',
      'index.sqlite',
      'index.sqlite-wal',
      '/staging/',
    ])
    const { ferry } = power
    await ferry.mount('--mode', mode)
    expect(await put('a-before')).toBeUndefined()
    const acknowledged = ['a-before']
    const refused = new Map<string, string>()
    power.disk.failNextSync(what)
    for (const name of ['b', 'c', 'd', 'e', 'f', 'g', 'h']) {
      const errno = await put(name)
      if (errno === undefined) acknowledged.push(name)
      else refused.set(name, errno)
    }
    await ferry.eventually('the failure', () => Promise.resolve(power.disk.hasFailed))
    expect([...refused.values()].every((errno) => errno === 'EIO')).toBe(true)
    expect(acknowledged.length).toBeGreaterThan(4)
    const { failures } = await ferry.status()
    expect(failures).not.toEqual([])
    expect(ferry.log).toContain('a sync failed')
    await power.cut()
    await ferry.mount()
    for (const name of acknowledged)
      expect((await ferry.readAnew(name)).equals(bodyOf(name)), `${what}: ${name}`).toBe(true)
    // What was not acknowledged is there, or it is listed as lost: never other bytes, and then it is the application's to replace.
    for (const name of refused.keys()) {
      const bytes = await ferry.readAnew(name).catch(() => undefined)
      if (bytes) expect(bytes.equals(bodyOf(name)), `${what}: ${name}`).toBe(true)
      else expect((await ferry.status()).failures).toContainEqual(expect.objectContaining({ path: name }))
      await ferry.call.unlink(ferry.at(name))
    }
    await ferry.settled()
    const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
    expect(status, stdout).toBe(0)
  })
})
