import { pino } from 'pino'
import { Counter, Histogram, Registry } from 'prom-client'
import { InstrumentedStore } from '../../../src/store/instrumented.ts'
import { MemoryStore } from '../../../src/store/memory/store.ts'
import { ResilientStore } from '../../../src/store/resilience/store.ts'
import { storeContract } from '../../support/store-contract.ts'

const NO_EXTRAS = { reopen: false, corrupt: false, elsewhere: false }

storeContract(
  'resilience over memory',
  async () => ({
    store: new ResilientStore(new MemoryStore(), {
      deadlineMs: 2000,
      concurrency: 64,
      queue: 10_000,
      log: pino({ level: 'silent' }),
    }),
  }),
  NO_EXTRAS,
)

storeContract(
  'metrics over memory',
  async () => {
    const registers = [new Registry()]
    return {
      store: new InstrumentedStore(new MemoryStore(), {
        operations: new Counter({
          name: 'operations',
          help: 'h',
          labelNames: ['operation', 'space', 'outcome'],
          registers,
        }),
        seconds: new Histogram({ name: 'seconds', help: 'h', labelNames: ['operation', 'space'], registers }),
        bytes: new Counter({ name: 'bytes', help: 'h', labelNames: ['direction'], registers }),
      }),
    }
  },
  NO_EXTRAS,
)
