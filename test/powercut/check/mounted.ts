import { join } from 'node:path'
import { policyOf } from '../../../src/base/modes.ts'
import { reasonOf } from '../../../src/base/errors.ts'
import type { StatusReport } from '../../../src/daemon/engine.ts'
import type { Tree } from '../app/history.ts'
import type { Script } from '../app/script.ts'
import type { Machine } from '../machine/machine.ts'
import { Command } from '../product/command.ts'
import { mountedTree } from '../product/mounted-tree.ts'
import type { Problem } from './compare.ts'
import { compareVolume, differences } from './serving.ts'

const DONE = 0
// What is lost is left to do, and differs.
const LEFT = 3

/** The same as of the product's parts in one process, of `ferryfs mount` and its real mount: what it shows, keeps and says. */
export function checkMounted(
  script: Script,
  { root, machine }: { readonly root: string; readonly machine: Machine },
  isPossible: (seen: Tree) => Problem[],
): Problem[] {
  const command = new Command(root, machine)
  let asked = 'mount'
  const expect = (args: readonly string[], statuses: readonly number[]): string => {
    asked = args[0] ?? ''
    const { status, output } = command.run([...args])
    if (status === null || !statuses.includes(status)) throw new Error(`it ended with ${status}: ${output}`)
    return output
  }
  try {
    command.mount(script)
    asked = 'its tree'
    const first = mountedTree(command.target)
    const problems = isPossible(first)
    if (problems.length > 0) return problems.map(named)
    const { mode } = JSON.parse(expect(['status', command.target, '--json'], [DONE])) as StatusReport
    const policy = policyOf(mode, script.variant === 'source-readonly')
    const isWhole = [...first.values()].every(({ lost }) => lost.size === 0)
    const statuses = isWhole ? [DONE] : [LEFT]
    if (policy.copies) expect(['migrate', command.target, '--wait'], isWhole ? [DONE] : [DONE, LEFT])
    expect(['verify', command.target], policy.copies ? statuses : [DONE, LEFT])
    asked = 'its tree'
    const settled = mountedTree(command.target)
    const changed = differences(first, settled)
    if (changed.length > 0) return changed.map(named)
    expect(['unmount', command.target], statuses)
    if (policy.writeTo !== 'legacy') return []
    return compareVolume(settled, join(root, 'volume')).map(named)
  } catch (error) {
    return [{ kind: 'request', path: '/', detail: `ferryfs mount, ${asked}: ${reasonOf(error)}` }]
  } finally {
    command.end()
  }
}

const named = (problem: Problem): Problem => ({
  ...problem,
  detail: `through a real mount ${problem.detail}`,
})
