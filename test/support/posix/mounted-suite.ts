import { afterAll, beforeAll } from 'vitest'
import { posixSuite } from '../../posix/suite.ts'
import { describeMounted } from '../fuse/mounted.ts'
import { Ferry } from '../mount/ferry.ts'

// Most cases do not care how large the large directory is; those that do have 5,000 entries on the plain directory.
const ENTRIES = 150

/** The suite on a mount that `prepare` makes. A file for each: one after the other they would take as long as all else together. */
export function posixSuiteOn(name: string, prepare: (ferry: Ferry) => Promise<void>): void {
  describeMounted(name, () => {
    let ferry: Ferry

    beforeAll(async () => {
      ferry = new Ferry()
      await prepare(ferry)
      await ferry.call.chmod(ferry.target, 0o755)
    })

    afterAll(async () => {
      await ferry.clear()
    })

    posixSuite({
      name,
      directory: () => ferry.target,
      entries: ENTRIES,
    })
  })
}
