import { describe } from 'vitest'
import { reasonOf } from '../../../src/base/errors.ts'
import { loadFuseNative } from '../../../src/fuse/native/library.ts'
import { whyNoMount } from '../../support/fuse/mounted.ts'
import type { AbilityName } from '../../support/transport-contract.ts'

/** What fuse-native cannot do; the table in docs/transports.md says what comes of each. */
export const NATIVE_LACKS: readonly AbilityName[] = [
  'owner-of-new-files',
  'set-id-at-creation',
  'nanoseconds',
  'times-before-1970',
  'one-time-alone',
  'names-of-any-bytes',
  'inode-numbers-of-64-bits',
  'hard-links-open-at-once',
  'rename-flags',
  'fallocate',
  'seek-holes',
  'access-control-lists',
  'unlinked-in-a-removed-directory',
]

function whyNotNative(): string | undefined {
  try {
    loadFuseNative()
  } catch (error) {
    return reasonOf(error)
  }
  return whyNoMount()
}

const reason = whyNotNative()
if (reason) console.log(`the transport fuse-native is not tried here: ${reason}`)

/** `describe`, left out with a printed reason where fuse-native does not load or cannot mount. */
export const describeNative = describe.skipIf(reason !== undefined)
