import { mkdirSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll } from 'vitest'
import { posixSuite } from '../../posix/suite.ts'
import { describeMounted } from '../../support/fuse/mounted.ts'
import { Ferry } from '../../support/mount/ferry.ts'

// Most cases do not care how large the large directory is; those that do have 5,000 entries on the plain directory.
const ENTRIES = 150

function suiteOn(
  name: string,
  expectations: ReadonlyMap<string, string>,
  prepare: (ferry: Ferry) => Promise<void>,
): void {
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
      expectations,
      entries: ENTRIES,
    })
  })
}

for (const mode of ['mirror', 'prefer-store', 'drain']) {
  suiteOn(`a mount in ${mode}`, new Map(), (ferry) => ferry.mount('--mode', mode))
}

suiteOn('a mount whose files have all moved to the store', new Map(), async (ferry) => {
  mkdirSync(ferry.under('posix-suite-before/deep'), { recursive: true })
  writeFileSync(ferry.under('posix-suite-before/deep/file'), 'moved')
  await ferry.mount('--mode', 'drain')
  await ferry.done('migrate', ferry.target, '--wait')
  await ferry.mode('store-only')
})
