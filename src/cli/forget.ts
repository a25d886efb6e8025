import { closeSync, openSync } from 'node:fs'
import { UsageError } from '../base/errors.ts'
import { mountCommand } from '../config/mount-command.ts'
import { runDirectory } from '../config/paths.ts'
import { EXIT } from '../daemon/exit-status.ts'
import { namesOf } from '../daemon/locate.ts'
import {
  forgetOwner,
  forgetRemembered,
  ownersOf,
  type Remembered,
  rememberedMounts,
} from '../daemon/machine.ts'
import { findRegistration, supervisorAlive } from '../daemon/registry.ts'
import { SourceClaim } from '../daemon/source-claim.ts'
import { type FoundMark, readMark, removeMark, rootIdentity } from '../legacy/index.ts'
import { DIRECTORY_TO_READ } from '../sys/presence.ts'
import { type Context, type ExitStatus, printJson } from './context.ts'
import type { AddCommand } from './run.ts'

interface ForgetFlags {
  readonly json?: true
}

export const addForget: AddCommand = (program, context, finish) => {
  program
    .command('forget')
    .description(
      'take the mark off a SOURCE and forget its mount; state directory and store stay as they are',
    )
    .argument('<target>', 'where it was mounted, or the SOURCE itself')
    .option('--json', 'what was forgotten, for programs')
    .action((path: string, flags: ForgetFlags) => finish(forget(path, flags, context)))
}

async function forget(path: string, flags: ForgetFlags, context: Context): Promise<ExitStatus> {
  const { environment } = context
  const names: string[] = []
  for await (const name of namesOf(path)) names.push(name)
  refuseMounted(names, runDirectory(environment))
  const all = rememberedMounts(environment)
  const asTarget = all.find(({ target }) => names.includes(target))
  const source = asTarget?.source ?? names.at(-1) ?? path
  const mounts = all.filter((mount) => mount.source === source)
  // Nobody begins to serve it meanwhile.
  const claim = await SourceClaim.take(source, runDirectory(environment))
  try {
    const marks = unmark(source, environment)
    if (mounts.length === 0 && marks.length === 0) {
      throw new UsageError(
        `${path} is neither marked by ferryfs nor remembered as a mount; nothing to forget`,
      )
    }
    for (const { target } of mounts) forgetRemembered(target, environment)
    if (flags.json) printJson(context, { source, mounts, marks })
    else for (const line of wordsOf(source, mounts, marks)) context.print(line)
    return EXIT.done
  } finally {
    claim.release()
  }
}

function refuseMounted(names: readonly string[], runDir: string): void {
  for (const name of names) {
    const registration = findRegistration(runDir, name)
    if (!registration || !supervisorAlive(registration)) continue
    throw new UsageError(`${name} is mounted; "ferryfs unmount ${name}" first`)
  }
}

/** Takes off what marks SOURCE, there and in the machine's records; what it was. */
function unmark(source: string, environment: NodeJS.ProcessEnv): FoundMark[] {
  let root: number
  try {
    root = openSync(source, DIRECTORY_TO_READ)
  } catch {
    // Not there, or a volume that is not attached: its mark is out of reach.
    return []
  }
  try {
    const found = readMark(root)
    const recorded = ownersOf(source, rootIdentity(root), environment)
    if (found) {
      removeMark(root)
      forgetOwner(found.id, environment)
    }
    for (const { id } of recorded) forgetOwner(id, environment)
    const others = recorded.filter(({ id }) => id !== found?.id)
    return [
      ...(found ? [found] : []),
      ...others.map((mark) => ({ kind: 'whole', id: mark.id, mark }) as const),
    ]
  } finally {
    closeSync(root)
  }
}

function wordsOf(source: string, mounts: readonly Remembered[], marks: readonly FoundMark[]): string[] {
  const lines = marks.map((found) =>
    found.kind === 'whole'
      ? `${source} is not marked any more; files that are not in it are still where the state directory ${found.mark.stateDir} knows`
      : `${source} is not marked any more`,
  )
  for (const { target, stateDir, settings } of mounts) {
    // Of a SOURCE that has lost its mark a mount is refused otherwise.
    const takeOver = marks.length > 0
    const again = mountCommand({ source, target, stateDir, settings, takeOver })
    lines.push(`the mount at ${target} is forgotten; "${again}" makes it again`)
  }
  return lines
}
