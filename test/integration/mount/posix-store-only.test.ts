import { mkdirSync, writeFileSync } from 'node:fs'
import { posixSuiteOn } from '../../support/posix/mounted-suite.ts'

posixSuiteOn('a mount whose files have all moved to the store', async (ferry) => {
  mkdirSync(ferry.under('posix-suite-before/deep'), { recursive: true })
  writeFileSync(ferry.under('posix-suite-before/deep/file'), 'moved')
  await ferry.mount('--mode', 'drain')
  await ferry.done('migrate', ferry.target, '--wait')
  await ferry.mode('store-only')
})
