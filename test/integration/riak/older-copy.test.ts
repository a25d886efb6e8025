import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { type RiakTarget, riakTarget } from '../../support/riak-target.ts'

const reason = whyNoMount()

describe.skipIf(reason !== undefined)(
  'an older copy of a state directory, mounted while the store is away',
  () => {
    let target: RiakTarget
    let ferry: Ferry

    beforeEach(async () => {
      ferry = new Ferry()
      target = await riakTarget({ seed: 11 })
    })

    afterEach(async () => {
      await ferry.clear()
      await target[Symbol.asyncDispose]()
    })

    test('P2: is found out when the store is back, and by the next mount: nothing that was acknowledged is missing', async ({
      skip,
    }) => {
      const { simulator } = target
      if (!simulator) return skip('nodes of this Riak are not the test’s to kill')
      const identity = [
        '--mode',
        'drain',
        '--store',
        target.url(),
        '--namespace',
        'older',
        '--op-timeout',
        '5s',
      ]
      const write = (name: string, text: string) => ferry.call.writeFile(ferry.at(name), text)
      const read = async (name: string) => (await ferry.call.readFile(ferry.at(name))).toString()
      const copy = join(ferry.root, 'copy')
      await ferry.mount(...identity)
      await write('changed', 'first')
      await ferry.settled()
      await ferry.unmount()
      cpSync(ferry.stateDir, copy, { recursive: true, preserveTimestamps: true })
      await ferry.mount(...identity)
      await write('changed', 'second')
      await write('made since', 'since')
      await ferry.settled()
      await ferry.unmount()
      rmSync(ferry.stateDir, { recursive: true })
      cpSync(copy, ferry.stateDir, { recursive: true, preserveTimestamps: true })

      const nodes = simulator.nodes.map((_, at) => at + 1)
      for (const node of nodes) await simulator.kill(node)
      await ferry.mount(...identity)
      expect(ferry.log).toContain('mounted without the store')
      await write('between', 'between')
      for (const node of nodes) await simulator.start(node)
      await ferry.eventually('the store to show that it is an older copy', async () =>
        ferry.log.includes('older copy'),
      )
      expect(await read('between')).toBe('between')
      // What it made is owed still.
      expect((await ferry.ferryfs('unmount', '--force', ferry.target)).status).not.toBe(null)

      await ferry.mount(...identity)
      for (const [name, text] of [
        ['changed', 'second'],
        ['made since', 'since'],
        ['between', 'between'],
      ] as const)
        expect(await read(name), name).toBe(text)
      const { failures } = await ferry.status()
      expect(failures).toContainEqual({
        path: '.',
        reason: expect.stringMatching(/is an older copy of itself/),
      })
      expect((await ferry.ferryfs('verify', ferry.target)).status).toBe(3)
      await ferry.ferryfs('verify', '--accept-losses', ferry.target)
      await ferry.settled()
      await ferry.done('verify', ferry.target)
      await ferry.remount(...identity)
      expect((await ferry.call.names(ferry.target)).sort()).toEqual(['between', 'changed', 'made since'])
      expect((await ferry.status()).failures).toEqual([])
    })
  },
)
