import { MemoryStore } from '../../../src/store/memory/store.ts'
import { storeContract } from '../../support/store-contract.ts'

storeContract('memory', async () => ({ store: new MemoryStore() }), {
  reopen: false,
  corrupt: false,
  elsewhere: false,
})
