import { BaseSequencer, type TestSpecification } from 'vitest/node'

// What takes minutes, the longest first.
const LONG = [
  '/integration/mount/posix-',
  '/integration/mount/crash-points',
  '/integration/fuse-native/',
  '/integration/riak/',
  '/integration/',
]

/** Files that take long begin first: the last of them would run alone, with a processor that has nothing to do. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const rank = ({ moduleId }: TestSpecification): number => {
      const found = LONG.findIndex((part) => moduleId.includes(part))
      return found === -1 ? LONG.length : found
    }
    return sorted.sort((one, other) => rank(one) - rank(other))
  }
}
