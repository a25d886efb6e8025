import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

/*
 * A drain was begun and nothing moved yet when the state directory was lost: SOURCE has all, a mark says that it may not, and the store
 * has no record. Whoever types what the messages name comes back to the tree, whichever of the ways that they name.
 */
describeMounted('a state directory that is lost before anything was stored', () => {
  let ferry: Ferry
  let identity: string[]

  beforeEach(async () => {
    ferry = new Ferry()
    mkdirSync(ferry.under('d'))
    writeFileSync(ferry.under('d/f'), 'below')
    writeFileSync(ferry.under('top'), 'above')
    identity = ['--store', `embedded:${ferry.root}/store`, '--namespace', 'tree']
    await ferry.mount('--mode', 'drain', ...identity)
    await ferry.settled()
    await ferry.unmount()
    rmSync(ferry.stateDir, { recursive: true })
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const commandsIn = (text: string): string[][] =>
    Array.from(text.matchAll(/"ferryfs ([^"]+)"/g), ([, words = '']) => words.split(' '))

  async function namedByRefusal(): Promise<{ rebuild: string[]; mount: string[] }> {
    const { status, stderr } = await ferry.tryMount(...identity)
    expect(status).toBe(2)
    const [rebuild = [], mount = []] = commandsIn(stderr)
    expect([rebuild[0], mount[0]]).toEqual(['rebuild', 'mount'])
    return { rebuild, mount }
  }

  async function drainsAll(): Promise<void> {
    expect((await ferry.call.readFile(ferry.at('d/f'))).toString()).toBe('below')
    expect((await ferry.call.readFile(ferry.at('top'))).toString()).toBe('above')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.done('verify', ferry.target)
    expect(readdirSync(ferry.source)).toEqual([])
    const back = join(ferry.root, 'back')
    await ferry.done('restore', ferry.target, back)
    expect(readFileSync(join(back, 'd/f'), 'utf8')).toBe('below')
    expect(readFileSync(join(back, 'top'), 'utf8')).toBe('above')
    await ferry.unmount()
  }

  test('P1, P5: rebuild says what is lost, with status 3, and again with --accept-losses; the mount has all of SOURCE', async () => {
    const { rebuild, mount } = await namedByRefusal()
    const lost = await ferry.ferryfs(...rebuild)
    expect(lost.status).toBe(3)
    expect(lost.stdout).toMatch(
      /^lost +\.: the record of the tree's root is lost: .*1-0 is not in the store$/m,
    )
    expect(lost.stdout).toMatch(/--accept-losses/)
    const accepted = await ferry.ferryfs(...rebuild, '--accept-losses')
    expect(accepted.status).toBe(3)
    expect(accepted.stdout).toMatch(/^left out +\.: /m)
    await ferry.done(...mount)
    expect((await ferry.status()).failures).toEqual([])
    await drainsAll()
  })

  test('P1, P5: mounted as it is the tree is lost, and not empty, until that is accepted', async () => {
    const { rebuild, mount } = await namedByRefusal()
    const { stdout } = await ferry.ferryfs(...rebuild)
    await ferry.done(...mount)
    await expect(ferry.call.names(ferry.target)).rejects.toThrow(/EIO/)
    await expect(ferry.call.readFile(ferry.at('top'))).rejects.toThrow(/EIO/)
    await expect(ferry.call.writeFile(ferry.at('new'), 'new')).rejects.toThrow(/EIO/)
    const verified = await ferry.ferryfs('verify', ferry.target)
    expect(verified.status).toBe(3)
    expect((await ferry.ferryfs('migrate', ferry.target, '--wait')).status).toBe(3)
    expect(readFileSync(ferry.under('top'), 'utf8')).toBe('above')
    const accept = commandsIn(stdout).find(([name]) => name === 'verify') ?? expect.unreachable()
    await ferry.done(...accept.map((word) => (word === 'TARGET' ? ferry.target : word)))
    await drainsAll()
  })

  test('P1, P5: restore from the store alone says that it has nothing', async () => {
    const { status, stdout, stderr } = await ferry.ferryfs('restore', ...identity, join(ferry.root, 'back'))
    expect(status).toBe(3)
    expect(stdout + stderr).toMatch(/missing +\.: .*1-0 is not in the store/)
  })
})
