import { tmpdir } from 'node:os'
import { reasonOf } from '../base/errors.ts'
import { OPTIONS } from '../config/options.ts'
import { createLog } from '../observe/log.ts'
import type { KeyValueStore } from '../store/contract.ts'
import { openStore } from '../store/index.ts'
import { checkWritable, type Finding } from './machine.ts'

export interface StoreInspection {
  /** False if the store could not be asked at all. */
  readonly reachable: boolean
  readonly findings: readonly Finding[]
}

// How long a store may take to answer a ping before an operator is told that it does not.
const PING_MS = 10_000

/** Whether a store is there and fit for it; nothing in it is changed. @throws UsageError if the URL is malformed */
export async function inspectStore(url: string): Promise<StoreInspection> {
  if (url.startsWith('embedded:')) return inspectEmbedded(url.slice('embedded:'.length))
  if (url === 'memory:') {
    const advice = 'for tests only; use embedded: or riak://…'
    return {
      reachable: true,
      findings: [{ level: 'warn', what: 'memory: forgets everything when the worker ends', advice }],
    }
  }
  return inspectRemote(url)
}

function inspectEmbedded(path: string): StoreInspection {
  if (path !== '') return { reachable: true, findings: [checkWritable('the embedded store', path, 'fail')] }
  return {
    reachable: true,
    findings: [{ level: 'ok', what: 'the embedded store lies in the state directory of each mount' }],
  }
}

async function inspectRemote(url: string): Promise<StoreInspection> {
  let store: KeyValueStore | undefined
  try {
    store = await openStore(url, {
      stateDir: tmpdir(),
      namespace: OPTIONS.namespace.fallback,
      log: createLog({ level: 'error', name: 'doctor', write: () => undefined }),
    })
    await store.ping({ signal: AbortSignal.timeout(PING_MS) })
    return { reachable: true, findings: [{ level: 'ok', what: `${store.url} answers` }] }
  } catch (error) {
    const advice = 'is it running, is the address right, does a firewall allow it?'
    return {
      reachable: false,
      findings: [{ level: 'fail', what: `${url} does not answer: ${reasonOf(error)}`, advice }],
    }
  } finally {
    await store?.close()
  }
}
