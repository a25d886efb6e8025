import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Violation } from '../violation.ts'
import type { Conductor, Fault } from './fault.ts'

const USER = fileURLToPath(new URL('../clients/hostile-user.ts', import.meta.url))
// Longer than all of it takes beside everything else; who waits for so long waits for ever.
const USER_MS = 240_000

/** What the user does: a process of its own, for a call on the mount may hang. */
type Deed = 'grow' | 'look' | 'remove'

async function has({ world, phase }: Conductor, deed: Deed): Promise<void> {
  const directory = `${world.target}/hostile-${phase}`
  const problem = await new Promise<string | undefined>((resolve) => {
    execFile(process.execPath, [USER, deed, directory], { timeout: USER_MS, cwd: '/' }, (error, _, stderr) =>
      resolve(
        error === null ? undefined : `${error.killed ? 'does not end' : 'fails'}: ${stderr.slice(-500)}`,
      ),
    )
  })
  if (problem !== undefined) throw new Violation(`P6: a user who has a hostile tree: ${deed} ${problem}`)
}

/**
 * An ordinary user has a tree that costs a file system as much as can be had for little: thousands of names of one file, depth, holes of
 * terabytes, attributes to the limit. It is made, looked at, moved, verified and removed while the others work, who must not notice.
 */
const hostileTree: Fault = {
  name: 'hostile-tree',
  groups: ['processes'],
  strikes: 4,
  async strike(conductor, nth) {
    const { policy, world } = conductor
    if (nth === 0) await has(conductor, 'grow')
    else if (nth === 1) await has(conductor, 'look')
    else if (nth === 2) await (policy.copies ? world.daemon.migrate() : has(conductor, 'look'))
    else await (policy.copies ? world.daemon.verify() : has(conductor, 'look'))
  },
  end: (conductor) => has(conductor, 'remove'),
}

export const HOSTILE_FAULTS: readonly Fault[] = [hostileTree]
