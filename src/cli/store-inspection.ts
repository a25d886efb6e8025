import { createLog } from '../observe/log.ts'
import { checkWritable, type Finding } from './machine.ts'

export interface StoreInspection {
  /** False if the store could not be asked at all. */
  readonly reachable: boolean
  readonly findings: readonly Finding[]
}

/** Whether a store is there and fit for it; what it holds is not changed. @throws UsageError if the URL is malformed */
export async function inspectStore(url: string): Promise<StoreInspection> {
  if (url.startsWith('riak:')) return inspectCluster(url)
  const finding = url === 'memory:' ? MEMORY : inspectEmbedded(url.slice('embedded:'.length))
  return { reachable: true, findings: [finding] }
}

const MEMORY: Finding = {
  level: 'warn',
  what: 'memory: forgets everything when the worker ends',
  advice: ['for tests only; use embedded: or riak://…'],
}

function inspectEmbedded(path: string): Finding {
  if (path !== '') return checkWritable('the embedded store', path, 'fail')
  return { level: 'ok', what: 'the embedded store lies in the state directory of each mount', advice: [] }
}

async function inspectCluster(url: string): Promise<StoreInspection> {
  // Only this store brings a client library along, so it is loaded when it is asked for.
  const { inspectRiak } = await import('../store/riak/inspect.ts')
  const quiet = createLog({ level: 'error', name: 'doctor', write: () => undefined })
  const findings = await inspectRiak(url, quiet)
  return {
    // Without an answer of any node nothing else was looked at.
    reachable: findings.some(({ ok }) => ok),
    findings: findings.map(({ ok, what, advice = [] }) => ({
      level: !ok ? 'fail' : advice.length > 0 ? 'warn' : 'ok',
      what,
      advice,
    })),
  }
}
