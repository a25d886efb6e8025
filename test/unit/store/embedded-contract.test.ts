import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { openStore } from '../../../src/store/index.ts'
import { EmbeddedDirectory } from '../../support/embedded-directory.ts'
import { type StoreUnderTest, storeContract } from '../../support/store-contract.ts'

const log = pino({ level: 'silent' })

async function open(): Promise<StoreUnderTest> {
  const stateDir = await mkdtemp(join(tmpdir(), 'ferryfs-store-'))
  const options = { stateDir, namespace: 'test', log }
  const directory = new EmbeddedDirectory(join(stateDir, 'store', 'test'))
  let store = await openStore('embedded:', options)
  return {
    store,
    async reopen() {
      await store.close()
      store = await openStore('embedded:', options)
      return store
    },
    corrupt: (space, key) => directory.corrupt(space, key),
    elsewhere: { url: 'embedded:', stateDir, namespace: 'test', release: () => store.close() },
    async dispose() {
      await store.close()
      await rm(stateDir, { recursive: true })
    },
  }
}

storeContract('embedded', open, { reopen: true, corrupt: true, elsewhere: true })
