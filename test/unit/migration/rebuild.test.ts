import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, expect, test, vi } from 'vitest'
import { Catalog } from '../../../src/catalog/index.ts'
import { Rebuild } from '../../../src/migration/index.ts'
import { StoreUnavailable } from '../../../src/store/errors.ts'
import { Rig } from '../../support/rig/rig.ts'

let rig: Rig

afterEach(() => rig.stop())

// It once made an empty catalog of a cluster with one node away, and said how to mount it.
test.each(['dirs', 'files'] as const)(
  'P4: while the store cannot say which %s it has, nothing is rebuilt',
  async (away) => {
    rig = await Rig.start({
      mode: 'drain',
      fill: (source) => {
        mkdirSync(join(source, 'd'))
        writeFileSync(join(source, 'd/f'), 'f')
      },
    })
    await rig.migrate()
    await rig.settle()
    const { memory } = rig.world
    const get = memory.get.bind(memory)
    const asked = vi.spyOn(memory, 'get').mockImplementation((space, key, options) => {
      // All but the root's header, with which a rebuild begins.
      if (space !== away || key === '1-0') return get(space, key, options)
      return Promise.reject(new StoreUnavailable('one of its owners is away'))
    })
    const catalog = Catalog.open(join(rig.root, 'rebuilt.db'), { check: false })
    const run = {
      onProgress: () => undefined,
      signal: new AbortController().signal,
      surveyPath: join(rig.root, 'survey.db'),
    }
    const rebuild = new Rebuild(catalog, memory, pino({ level: 'silent' }), run).run(8)
    const failure = await rebuild.catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(StoreUnavailable)
    expect(String(failure)).toContain('one of its owners is away; nothing was made: rebuild again when')
    // A majority in which stand-ins count is not enough.
    expect(asked.mock.calls.every(([, , options]) => options?.everywhere)).toBe(true)
    asked.mockRestore()
    await catalog.close()
  },
)
