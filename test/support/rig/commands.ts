import { constants, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { MODES } from '../../../src/base/modes.ts'
import { ModeRefused } from '../../../src/migration/mode-switch.ts'
import { clock, turns } from './clock.ts'
import type { Fault } from './fault-store.ts'
import { KILL_POINTS } from './kill-points.ts'
import { isDir, type ModelNode, type ModelType, type Place } from './model.ts'
import type { Unsynced } from './power.ts'
import { namelessSteps } from './nameless-steps.ts'
import {
  attribute,
  chosen,
  data,
  directoryOf,
  length,
  names,
  offset,
  permissions,
  pick,
  raw,
  Step,
  step,
} from './step.ts'
import type { System } from './system.ts'

const { S_IFDIR, S_IFREG, S_IFLNK, S_IFIFO } = constants
const MiB = 1024 * 1024
const UMASK = 0o022

const make = (name: string, type: ModelType): fc.Arbitrary<Step> =>
  step(name, [pick, names, permissions], async (system, number, file, mode) => {
    const directory = directoryOf(system, number)
    const parent = await system.ino(directory)
    const content = type === S_IFLNK ? raw(`to ${file}`) : undefined
    const bits = type === S_IFLNK ? 0o777 : mode & ~UMASK
    const node = system.tree.make({ directory, name: file }, type, bits, content)
    const expected = typeof node === 'string' ? node : undefined
    const entry = await system.expect(name, expected, async (overlay, request) => {
      if (type === S_IFDIR) return overlay.mkdir(request, parent, raw(file), mode)
      if (type === S_IFLNK) return overlay.symlink(request, parent, raw(file), content ?? raw(''))
      if (type === S_IFIFO) return overlay.mknod(request, parent, raw(file), S_IFIFO | mode, 0)
      const made = await overlay.create(request, parent, raw(file), mode, constants.O_RDWR)
      if (typeof node !== 'string') node.handles.push(made.open.handle)
      return made.entry
    })
    if (!entry || typeof node === 'string') return
    system.learn(node, entry.nodeId)
    // Of a file that was made twice for one request only one handle reached the application.
    node.handles.splice(0, Math.max(0, node.handles.length - 1))
  })

const onFile = <T extends readonly unknown[]>(
  name: string,
  args: { [K in keyof T]: fc.Arbitrary<T[K]> },
  body: (system: System, node: ModelNode, ino: bigint, ...rest: T) => Promise<void>,
): fc.Arbitrary<Step> =>
  fc.tuple(pick, fc.tuple<[...T]>(...args)).map(
    ([number, rest]) =>
      new Step(name, [number, ...rest], async (system) => {
        const node = chosen(system.tree.files(), number)
        if (node) await body(system, node, await system.ino(node), ...rest)
      }),
  )

const onAny = <T extends readonly unknown[]>(
  name: string,
  args: { [K in keyof T]: fc.Arbitrary<T[K]> },
  body: (system: System, node: ModelNode, ino: bigint, ...rest: T) => Promise<void>,
): fc.Arbitrary<Step> =>
  fc.tuple(pick, fc.tuple<[...T]>(...args)).map(
    ([number, rest]) =>
      new Step(name, [number, ...rest], async (system) => {
        const node = chosen(system.tree.nodes(), number)
        if (node && node !== system.tree.root) await body(system, node, await system.ino(node), ...rest)
      }),
  )

const changes: Array<fc.WeightedArbitrary<Step>> = [
  { weight: 6, arbitrary: make('create', S_IFREG) },
  { weight: 3, arbitrary: make('mkdir', S_IFDIR) },
  { weight: 1, arbitrary: make('symlink', S_IFLNK) },
  { weight: 1, arbitrary: make('mknod', S_IFIFO) },
  {
    weight: 3,
    arbitrary: onAny('link', [pick, names], async (system, node, ino, number, name) => {
      if (isDir(node)) return
      const directory = directoryOf(system, number)
      const parent = await system.ino(directory)
      const expected = system.tree.link(node, { directory, name })
      await system.expect('link', expected, (overlay, request) =>
        overlay.link(request, ino, parent, raw(name)),
      )
    }),
  },
  {
    weight: 5,
    arbitrary: step('unlink', [pick, names], async (system, number, name) => {
      const directory = directoryOf(system, number)
      const parent = await system.ino(directory)
      const victim = directory.children.get(name)
      const expected = system.tree.unlink({ directory, name })
      await system.expect('unlink', expected, (overlay, request) =>
        overlay.unlink(request, parent, raw(name)),
      )
      forgetIfGone(system, victim)
    }),
  },
  {
    weight: 2,
    arbitrary: step('rmdir', [pick, names], async (system, number, name) => {
      const directory = directoryOf(system, number)
      const parent = await system.ino(directory)
      const victim = directory.children.get(name)
      const expected = system.tree.rmdir({ directory, name })
      await system.expect('rmdir', expected, (overlay, request) => overlay.rmdir(request, parent, raw(name)))
      if (expected === undefined) forgetIfGone(system, victim)
    }),
  },
  {
    weight: 6,
    arbitrary: step(
      'rename',
      [pick, names, pick, names, fc.constantFrom(0, 0, 0, 1, 2, 4)],
      async (system, fromNumber, name, toNumber, newName, flags) => {
        const from: Place = { directory: directoryOf(system, fromNumber), name }
        const to: Place = { directory: directoryOf(system, toNumber), name: newName }
        const source = from.directory.children.get(name)
        const target = to.directory.children.get(newName)
        // The kernel refuses these itself: a directory into itself, and what is above onto what is below.
        if (source && isDir(source) && system.tree.isWithin(to.directory, source)) return
        if (target && isDir(target) && system.tree.isWithin(from.directory, target)) return
        const parent = await system.ino(from.directory)
        const newParent = await system.ino(to.directory)
        const expected = system.tree.rename(from, to, flags)
        await system.expect('rename', expected, (overlay, request) =>
          overlay.rename(request, parent, raw(name), newParent, raw(newName), flags),
        )
        if (expected === undefined && flags !== 2) forgetIfGone(system, target)
      },
    ),
  },
  {
    weight: 12,
    arbitrary: onFile('write', [offset, length, fc.nat(255)], async (system, node, ino, at, size, seed) => {
      const bytes = data(size, seed)
      const written = await system.expect('write', undefined, (overlay, request) =>
        overlay.write(request, ino, 0n, at, bytes, { killSuidGid: false, flags: 0 }),
      )
      if (written === undefined) return
      if (written !== size) throw new Error(`${written} of ${size} bytes were written`)
      system.tree.write(node, at, bytes)
    }),
  },
  {
    weight: 4,
    arbitrary: onFile('truncate', [offset], async (system, node, ino, size) => {
      const done = await system.expect('truncate', undefined, (overlay, request) =>
        overlay.setattr(request, ino, { size }),
      )
      if (done) system.tree.resize(node, size)
    }),
  },
  {
    weight: 2,
    arbitrary: onFile(
      'fallocate',
      [fc.constantFrom(0, 1, 3, 16, 17), offset, length],
      async (system, node, ino, mode, at, size) => {
        const answer = await system.expect(
          'fallocate',
          undefined,
          async (overlay, request) => {
            await overlay.fallocate(request, ino, 0n, mode, at, size)
            return true
          },
          ['EOPNOTSUPP', 'ENOTSUP'],
        )
        if (!answer) return
        const end = at + size
        if ((mode & 1) === 0 && end > node.content.length) system.tree.resize(node, end)
        if (mode !== 0 && mode !== 1) node.content.fill(0, at, Math.min(end, node.content.length))
        node.mtimeNs = undefined
      },
    ),
  },
  {
    weight: 2,
    arbitrary: onAny('chmod', [permissions], async (system, node, ino, mode) => {
      if (node.type === S_IFLNK) return
      const done = await system.expect('chmod', undefined, (overlay, request) =>
        overlay.setattr(request, ino, { mode }),
      )
      if (done) node.mode = mode
    }),
  },
  {
    weight: 2,
    arbitrary: onAny('chown', [fc.nat(3), fc.nat(3)], async (system, node, ino, uid, gid) => {
      const done = await system.expect('chown', undefined, (overlay, request) =>
        overlay.setattr(request, ino, { uid, gid }),
      )
      if (done) Object.assign(node, { uid, gid })
    }),
  },
  {
    weight: 2,
    arbitrary: onAny(
      'utimens',
      [fc.constantFrom(0n, 1n, 1_234_567_890_123_456_789n)],
      async (system, node, ino, mtime) => {
        const done = await system.expect('utimens', undefined, (overlay, request) =>
          overlay.setattr(request, ino, { mtime }),
        )
        if (done) node.mtimeNs = mtime
      },
    ),
  },
  {
    weight: 3,
    arbitrary: onAny(
      'setxattr',
      [attribute, fc.nat(9), fc.constantFrom(0, 0, 1, 2)],
      async (system, node, ino, name, seed, flags) => {
        const plain = node.type === S_IFREG || isDir(node)
        const has = node.xattrs.has(name)
        const expected = !plain
          ? 'EPERM'
          : flags === 1 && has
            ? 'EEXIST'
            : flags === 2 && !has
              ? 'ENODATA'
              : undefined
        const value = data(name === 'user.long' ? 3500 : 1 + seed, seed)
        await system.expect('setxattr', expected, (overlay, request) =>
          overlay.setxattr(request, ino, raw(name), value, flags),
        )
        if (expected === undefined) node.xattrs.set(name, value)
      },
    ),
  },
  {
    weight: 1,
    arbitrary: onAny('removexattr', [attribute], async (system, node, ino, name) => {
      if (node.type !== S_IFREG && !isDir(node)) return
      const expected = node.xattrs.delete(name) ? undefined : 'ENODATA'
      await system.expect('removexattr', expected, (overlay, request) =>
        overlay.removexattr(request, ino, raw(name)),
      )
    }),
  },
]

/** What the kernel does with a node that lost its last name and that nobody has open. */
function forgetIfGone(system: System, node: ModelNode | undefined): void {
  if (!node?.known || node.ino === undefined || node.handles.length > 0) return
  if (system.tree.placeOf(node)) return
  node.known = false
  if (!system.rig.dead) system.rig.overlay.forget(node.ino, 1n << 32n)
}

const looks: Array<fc.WeightedArbitrary<Step>> = [
  {
    weight: 8,
    arbitrary: onFile(
      'read',
      [offset, fc.constantFrom(1, 100, 70_000, 3 * MiB)],
      (system, node, _, at, size) => system.compareContent(node, at, size),
    ),
  },
  {
    weight: 3,
    arbitrary: step('list', [pick, fc.constantFrom(1, 2, 100)], (system, number, room) =>
      system.compareListing(directoryOf(system, number), room),
    ),
  },
  { weight: 4, arbitrary: onAny('stat', [], (system, node) => system.compareAttributes(node)) },
  { weight: 4, arbitrary: onFile('open', [], (system, node) => system.open(node)) },
  {
    weight: 5,
    arbitrary: step('release', [pick], async (system, number) => {
      const open = system.tree.files().filter(({ handles }) => handles.length > 0)
      const node = chosen(open, number)
      if (node) await system.release(node)
    }),
  },
  {
    weight: 2,
    arbitrary: onFile('fsync', [], async (system, _, ino) => {
      await system.expect('fsync', undefined, (overlay, request) => overlay.fsync(request, ino, 0n, false))
    }),
  },
  {
    weight: 1,
    arbitrary: step('forget', [], async (system) => system.forget()),
  },
]

const background: Array<fc.WeightedArbitrary<Step>> = [
  { weight: 4, arbitrary: step('turns', [fc.nat(30)], (_, count) => turns(count)) },
  {
    weight: 2,
    arbitrary: step('advance', [fc.constantFrom(300, 3000, 20_000)], async (_, milliseconds) => {
      clock.advance(milliseconds)
      await turns(10)
    }),
  },
  {
    weight: 1,
    arbitrary: step('settle', [], async (system) => {
      await system.heal()
      await orDead(system, () => system.rig.settle())
    }),
  },
  {
    weight: 1,
    arbitrary: step('migrate', [], async (system) => {
      if (!system.rig.modes.policy.copies || system.faulty) return
      await orDead(system, () => system.rig.migrate())
    }),
  },
  {
    weight: 1,
    arbitrary: step('reap', [], async (system) => {
      if (system.faulty || !system.rig.modes.policy.removesLegacy) return
      await orDead(system, () => system.rig.reap())
    }),
  },
]

/** Waits for work of a worker that may die of its trap meanwhile. */
async function orDead(system: System, work: () => Promise<unknown>): Promise<void> {
  const { rig } = system
  const outcome = work().catch((error: unknown) => {
    if (!rig.dead) throw error
  })
  await Promise.race([outcome, rig.death])
  if (rig.dead) await rig.restart('worker')
}

const crashes: Array<fc.WeightedArbitrary<Step>> = [
  {
    weight: 2,
    arbitrary: step('killWorker', [], async (system) => {
      await system.rig.restart('worker')
    }),
  },
  { weight: 1, arbitrary: step('killBoth', [], (system) => system.remount()) },
  {
    weight: 3,
    arbitrary: step(
      'dieAt',
      [fc.constantFrom(...KILL_POINTS), fc.integer({ min: 1, max: 3 })],
      async (system, point, nth) => system.rig.dieAt(point, nth),
    ),
  },
]

async function untilUploaded({ rig }: System): Promise<void> {
  const { outbox } = rig.catalog
  for (let left = 1000; left > 0 && outbox.pending(0n, 1000).some(({ kind }) => kind === 'upload'); left -= 1)
    await turns(1)
}

const powerCut: fc.Arbitrary<Step> = step(
  'powerCut',
  [
    fc.constantFrom('some', 'uploads', 'uploads', 'all', 'reap'),
    fc.nat(20),
    fc.constantFrom<Unsynced>('kept', 'lost'),
  ],
  async (system, what, count, unsynced) => {
    await system.heal()
    await system.powerCut(async () => {
      const { rig } = system
      const { copies, removesLegacy } = rig.modes.policy
      await orDead(system, async () => {
        // The moment between the commits of the uploads and whatever flushes them.
        if (what === 'uploads') await untilUploaded(system)
        if (what === 'some' || what === 'uploads') await turns(count)
        if (what === 'all' || what === 'reap') await rig.settle()
        if (what === 'reap' && copies) await rig.migrate()
        if (what === 'reap' && removesLegacy) await rig.reap()
      })
    }, unsynced)
  },
)

const faults: fc.Arbitrary<Step> = step(
  'faults',
  [
    fc.constantFrom<Fault>(
      'unavailable',
      'timeout',
      'lost-ack',
      'late',
      'stale',
      'not-found',
      'corrupt',
      'hang',
    ),
    fc.constantFrom(0.3, 1),
  ],
  async (system, fault, chance) => {
    system.rig.world.inject({ fault, chance })
    system.rig.world.maxDelay = 3
    system.faulty = true
    if (fault === 'late') system.mayLeak = true
  },
)

const heal: fc.Arbitrary<Step> = step('heal', [], (system) => system.heal())

const changeMode: fc.Arbitrary<Step> = step('mode', [fc.constantFrom(...MODES)], async (system, mode) => {
  await orDead(system, async () => {
    try {
      await system.rig.setMode(mode)
    } catch (error) {
      if (!(error instanceof ModeRefused)) throw error
    }
  })
})

/** Somebody works on the legacy volume itself; only where the volume is complete, and on files nobody has open. */
const pastOverlay: fc.Arbitrary<Step> = step(
  'pastOverlay',
  [pick, fc.constantFrom('write', 'create', 'unlink'), names, length],
  async (system, number, what, name, size) => {
    const { rig, tree } = system
    if (rig.modes.policy.writeTo !== 'legacy') return
    const bytes = data(size, number)
    if (what === 'create') {
      const directory = directoryOf(system, number)
      const node = tree.make({ directory, name }, S_IFREG, 0o644, bytes)
      if (typeof node === 'string') return
      writeFileSync(onDisk(system, { directory, name }), bytes, { mode: 0o644 })
      return
    }
    const candidates = tree.files().filter(({ handles, links }) => handles.length === 0 && links === 1)
    const node = chosen(candidates, number)
    const place = node && tree.placeOf(node)
    if (!node || !place) return
    if (what === 'write') {
      writeFileSync(onDisk(system, place), bytes)
      node.content = bytes
      node.mtimeNs = undefined
    } else {
      unlinkSync(onDisk(system, place))
      tree.unlink(place)
      forgetIfGone(system, node)
    }
  },
)

function onDisk(system: System, place: Place): Buffer {
  const path = Buffer.from(system.tree.pathOf(place), 'latin1')
  return Buffer.concat([Buffer.from(join(system.rig.source)), path])
}

export interface Choice {
  readonly crashes: boolean
  readonly faults: boolean
  readonly modes: boolean
  readonly pastOverlay: boolean
  readonly powerCuts?: boolean
}

/** The steps of a run, in the proportions of a busy file server with a bad network. */
export function steps(choice: Choice): fc.Arbitrary<fc.AsyncCommand<object, System>> {
  return fc.oneof(
    ...changes,
    ...namelessSteps,
    ...looks,
    ...background,
    ...(choice.crashes ? crashes : []),
    ...(choice.powerCuts ? [{ weight: 3, arbitrary: powerCut }] : []),
    ...(choice.faults
      ? [
          { weight: 2, arbitrary: faults },
          { weight: 2, arbitrary: heal },
        ]
      : []),
    ...(choice.modes ? [{ weight: 2, arbitrary: changeMode }] : []),
    ...(choice.pastOverlay ? [{ weight: 3, arbitrary: pastOverlay }] : []),
  )
}
