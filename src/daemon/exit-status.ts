import { UsageError } from '../base/errors.ts'
import { StoreTimeout, StoreUnavailable } from '../store/errors.ts'
import { Refused } from './engine.ts'

/** Exit statuses of every command; scripts rely on them. */
export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  /** Finished, but with differences, failures or work left; or refused with nothing changed. */
  incomplete: 3,
  storeUnreachable: 4,
} as const

/** The exit status that an error stands for, by itself or by what caused it. */
export function exitStatusOf(error: unknown): number {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof UsageError) return cause.exitStatus
    if (cause instanceof Refused) return EXIT.incomplete
    if (cause instanceof StoreUnavailable || cause instanceof StoreTimeout) return EXIT.storeUnreachable
    if ('exitStatus' in cause && typeof cause.exitStatus === 'number') return cause.exitStatus
  }
  return EXIT.failed
}
