import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { unmountKernel } from '../../../src/fuse/kernel/mount.ts'
import { EmbeddedDirectory } from '../../support/embedded-directory.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { pattern } from '../../support/mount/pattern.ts'

const MiB = 1 << 20
const contents = new Map([
  ['in the index', pattern(5000, 1)],
  ['in a value file', pattern(300_000, 2)],
  ['in chunks', pattern(2 * MiB + 5, 3)],
  ['sound', pattern(70_000, 4)],
])

/** Flips a bit where each of the files but "sound" keeps its content, or what describes it. */
const DAMAGES: Readonly<Record<string, (store: EmbeddedDirectory) => Promise<void>>> = {
  content: async (store) => {
    await store.corrupt('files', keyOf(store, 'in the index'))
    await store.corrupt('files', keyOf(store, 'in a value file'))
    const [chunk] = store.withIndex((index) =>
      index.prepare("SELECT key FROM record WHERE space = 2 AND key LIKE '%/1-%'").all(),
    )
    await store.corrupt('chunks', String(chunk?.key))
  },
  metadata: async (store) => {
    for (const name of contents.keys()) {
      if (name === 'sound') continue
      store.withIndex((index) =>
        index
          .prepare("UPDATE record SET metadata = replace(metadata, '1', '2') WHERE space = 1 AND key = ?")
          .run(keyOf(store, name)),
      )
    }
    // A chunk is its own proof; what describes it here is the length in its row.
    store.withIndex((index) => index.exec('UPDATE record SET length = length + 1 WHERE space = 2'))
  },
}

function keyOf(store: EmbeddedDirectory, name: string): string {
  const rows = store.withIndex((index) => index.prepare('SELECT key FROM record WHERE space = 1').all())
  const key = rows.map((row) => String(row.key)).find((text) => decodeURIComponent(text).includes(name))
  if (key === undefined) throw new Error(`no object for ${name} among ${JSON.stringify(rows)}`)
  return key
}

describeMounted('a damaged embedded store', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry()
    for (const [name, body] of contents) writeFileSync(ferry.under(name), body)
  })

  afterEach(async () => {
    await ferry.clear()
  })

  /** Moves everything, unmounts, damages the store and mounts again. */
  async function damaged(mode: string, damage: (store: EmbeddedDirectory) => Promise<void>): Promise<void> {
    await ferry.mount('--mode', mode)
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.unmount()
    await damage(new EmbeddedDirectory(`${ferry.stateDir}/store/ferryfs`))
    await ferry.mount()
  }

  async function expectFoundByVerify(): Promise<void> {
    const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
    expect(status, stdout).toBe(3)
    const named = [...contents.keys()].filter((name) => stdout.includes(`${name}: `))
    expect(named).toEqual(['in the index', 'in a value file', 'in chunks'])
    expect(stdout).toMatch(/: 3 differences\n$/)
  }

  describe.each(Object.keys(DAMAGES))('in its %s', (kind) => {
    const damage = DAMAGES[kind] ?? (() => Promise.resolve())

    test.each(gateShare(['mirror', 'prefer-store'], 2, Object.keys(DAMAGES).indexOf(kind) % 2))(
      'P1 P4: in %s the legacy copy serves, and what is found is written again',
      async (mode) => {
        await damaged(mode, damage)
        for (const [name, body] of contents)
          expect((await ferry.readAnew(name)).equals(body), name).toBe(true)
        // In prefer-store the readers have found it.
        if (mode === 'mirror') await expectFoundByVerify()
        await ferry.settled()
        const verified = await ferry.ferryfs('verify', ferry.target)
        expect(verified.status, verified.stdout).toBe(0)
      },
    )

    test('P1: in drain and store-only the read ends with EIO, never with a wrong byte, and verify names the file', async () => {
      await damaged('drain', damage)
      expect(readdirSync(ferry.source)).toEqual([])
      for (const mode of ['drain', 'store-only']) {
        if (mode === 'store-only') await ferry.mode(mode)
        for (const [name, body] of contents) {
          if (name === 'sound') expect((await ferry.readAnew(name)).equals(body)).toBe(true)
          else await expect(ferry.readAnew(name), `${name} in ${mode}`).rejects.toThrow('EIO')
        }
        await expectFoundByVerify()
      }
      const restored = await ferry.ferryfs('restore', ferry.target, `${ferry.root}/restored`)
      expect(restored.status).toBe(3)
      for (const name of contents.keys())
        expect(restored.stdout.includes(name), `${name} in ${restored.stdout}`).toBe(name !== 'sound')
    })
  })

  test('P3: a copy that is damaged before the legacy file is removed keeps it there', async () => {
    await ferry.mount('--mode', 'mirror')
    await ferry.done('migrate', ferry.target, '--wait')
    await ferry.settled()
    await ferry.unmount()
    const store = new EmbeddedDirectory(`${ferry.stateDir}/store/ferryfs`)
    await store.corrupt('files', keyOf(store, 'in a value file'))
    await ferry.mount('--mode', 'drain')
    await ferry.ferryfs('migrate', ferry.target, '--wait')
    await ferry.until('the sound ones removed', ({ files }) => files.drained >= 3)
    for (const [name, body] of contents) expect((await ferry.readAnew(name)).equals(body), name).toBe(true)
  })
})

describeMounted('a state directory in which something else lies in the place of staging files', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ faults: true })
  })

  afterEach(async () => {
    await ferry.clear()
  })

  const PLACES: Readonly<Record<string, (path: string) => void>> = {
    directory: (path) => mkdirSync(path),
    fifo: (path) => execFileSync('mkfifo', [path]),
    symlink: (path) => symlinkSync(join(ferry.root, 'copy'), path),
  }

  test.each(Object.keys(PLACES))(
    'P1, P2: a %s makes that file EIO, is listed, and the rest is served',
    async (kind) => {
      writeFileSync(ferry.under('sound'), 'on the volume')
      await ferry.mount('--mode', 'drain')
      // Nothing of it gets into the store.
      ferry.arm('content.upload.claimed!')
      await ferry.call.writeFile(ferry.at('late'), 'nowhere else').catch(() => undefined)
      await ferry.eventually('supervisor and worker to be dead', async () => ferry.fired)
      await unmountKernel(ferry.target, { lazy: true })
      const staging = join(ferry.stateDir, 'staging')
      const [file = 'none'] = readdirSync(staging)
      renameSync(join(staging, file), join(ferry.root, 'copy'))
      PLACES[kind]?.(join(staging, file))

      await ferry.mount()
      await expect(ferry.call.readFile(ferry.at('late'))).rejects.toThrow(/EIO/)
      expect((await ferry.call.readFile(ferry.at('sound'))).toString()).toBe('on the volume')
      await ferry.call.writeFile(ferry.at('new'), 'new')
      const { failures } = await ferry.status()
      const reason = expect.stringMatching(/^the staging file .* is missing: there is a .* in its place/)
      expect(failures).toEqual([{ path: 'late', reason }])
      const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
      expect(status, stdout).toBe(3)
      const restored = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
      expect(restored.stdout).toMatch(/^missing {2}late: /m)
      expect(restored.status).toBe(3)
      // A directory is left alone, and keeps nobody from a new file.
      await ferry.call.writeFile(ferry.at('late'), 'written anew')
      await ferry.settled()
      expect((await ferry.status()).failures).toEqual([])
      await ferry.remount()
      expect((await ferry.call.readFile(ferry.at('late'))).toString()).toBe('written anew')
    },
  )
})

describeMounted('a database of which nothing but its file is left, after a kill', () => {
  let ferry: Ferry

  beforeEach(() => {
    ferry = new Ferry({ faults: true })
  })

  afterEach(async () => {
    await ferry.clear()
  })

  test.each(['catalog.db', 'store/ferryfs/index.sqlite'])(
    'P2: of %s is never taken for one that was closed',
    async (file) => {
      writeFileSync(ferry.under('old'), 'on the volume')
      await ferry.mount('--mode', 'drain')
      await ferry.settled()
      // What the catalog is to the store is in its file; of what comes now nothing gets there.
      await ferry.remount()
      for (let index = 0; index < 20; index += 1) await ferry.call.writeFile(ferry.at(`new ${index}`), 'new')
      await ferry.settled()
      await ferry.killBoth()
      await unmountKernel(ferry.target, { lazy: true })
      for (const suffix of ['-wal', '-shm', '-witness', '-sums']) rmSync(join(ferry.stateDir, file + suffix))

      const offline = await ferry.ferryfs(
        'restore',
        '--state-dir',
        ferry.stateDir,
        join(ferry.root, 'offline'),
      )
      expect(offline.status, offline.stdout).toBe(3)
      await ferry.mount()
      expect((await ferry.status()).failures).not.toEqual([])
      const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
      expect(status, stdout).toBe(3)
      const back = await ferry.ferryfs('restore', ferry.target, join(ferry.root, 'back'))
      expect(back.status, back.stdout).toBe(3)
      for (const { stdout } of [offline, back]) {
        expect(stdout).toMatch(/^older {4}\.: /m)
        expect(stdout).toMatch(
          /may be older than what was acknowledged, and names may be missing: DEST stays/,
        )
      }
      if (file !== 'catalog.db') return
      expect(back.stdout).not.toMatch(/missing: .*tries those again/)
      expect(back.stdout).toMatch(/^older {4}new 7: .*it may still be older than what was acknowledged/m)
      await ferry.done('verify', '--accept-losses', ferry.target)
      await ferry.done('restore', ferry.target, join(ferry.root, 'back'))
    },
  )

  test('P2: one that was unmounted and left alone is all that is needed', async () => {
    writeFileSync(ferry.under('old'), 'on the volume')
    await ferry.mount('--mode', 'drain')
    await ferry.call.writeFile(ferry.at('new'), 'new')
    await ferry.settled()
    await ferry.unmount()
    for (const file of ['catalog.db', 'store/ferryfs/index.sqlite'])
      for (const suffix of ['-witness', '-sums']) rmSync(join(ferry.stateDir, file + suffix))
    await ferry.mount()
    expect((await ferry.call.readFile(ferry.at('new'))).toString()).toBe('new')
    const { status, stdout } = await ferry.ferryfs('verify', ferry.target)
    expect(status, stdout).toBe(0)
  })
})
