import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { pino } from 'pino'
import { afterAll } from 'vitest'
import { bucketOf } from '../../../src/store/riak/buckets.ts'
import { openRiakStore } from '../../../src/store/riak/index.ts'
import { riakTarget } from '../../support/riak-target.ts'
import { storeContract } from '../../support/store-contract.ts'

const target = await riakTarget({ types: { typed: {} } })
process.stdout.write(`Riak store contract on ${target.description}\n`)
afterAll(() => target[Symbol.asyncDispose]())

const log = pino({ level: 'silent' })
const { simulator } = target

const kinds = simulator === undefined ? [undefined] : ['default', 'typed']

for (const type of kinds) {
  // The suite asks for two thousand things at once, also where the machine has other work.
  const parameters = type === undefined ? undefined : `type=${type}&timeout=60000`
  storeContract(
    `riak, ${type ?? 'as FERRYFS_RIAK_TYPE says'}`,
    async () => {
      // Buckets of its own for each test: listings of a shared one grow with every test before.
      const namespace = `t${randomUUID()}`
      const open = () => openRiakStore(target.url(parameters), { namespace, log })
      let store = await open()
      return {
        store,
        reopen: async () => {
          await store.close()
          store = await open()
          return store
        },
        elsewhere: {
          url: target.url(parameters),
          stateDir: tmpdir(),
          namespace,
          release: () => store.close(),
        },
        corrupt: async (space, key) => {
          simulator?.damage(type ?? 'default', bucketOf(type ?? 'default', namespace, space).bucket, key)
        },
      }
    },
    { reopen: true, corrupt: simulator !== undefined, elsewhere: true },
  )
}
