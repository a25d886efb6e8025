import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gateShare } from '../../support/gate-share.ts'
import { kernelIsAtLeast, whyNoMount } from '../../support/fuse/mounted.ts'
import { CHANGES, LOOKS, operationOf } from '../../support/mount/crash-operations.ts'
import { CrashRun } from '../../support/mount/crash-run.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { O_APPEND, O_RDWR } from '../../support/posix/constants.ts'
import { diskTree } from '../../support/rig/trees.ts'

const survives = kernelIsAtLeast(6, 9)
if (!survives) console.log('P7 is not tried here: this kernel is older than 6.9')

/** Points that an operation passes, and what a new mount finds after a crash of both processes there. */
type Passed = readonly [point: string, operation: string, lasts: boolean | 'partly']

const MIRROR: readonly Passed[] = [
  ['overlay.create.intended', 'create', false],
  ['overlay.create.effect', 'create', true],
  ['overlay.create.owned', 'mkdir', true],
  ['overlay.tmpfile.made', 'create without a name', false],
  ['overlay.tmpfile.noted', 'create without a name', false],
  ['overlay.tmpfile.held', 'create without a name', false],
  ['overlay.link.intended', 'create without a name', false],
  ['overlay.link.effect', 'create without a name', true],
  ['overlay.link.intended', 'link', false],
  ['overlay.link.effect', 'link', true],
  ['overlay.rename.intended', 'rename', false],
  ['overlay.rename.effect', 'rename that exchanges', true],
  ['overlay.rename.effect', 'rename of a directory', true],
  ['overlay.unlink.intended', 'unlink', false],
  ['overlay.unlink.held', 'unlink of an open file', false],
  ['overlay.unlink.effect', 'unlink of an open file', true],
  ['overlay.rmdir.effect', 'rmdir', true],
  ['overlay.attributes.dirty', 'chmod', false],
  ['overlay.attributes.owned', 'chown', 'partly'],
  ['overlay.attributes.changed', 'chmod', true],
  ['overlay.setattr.done', 'utimes', true],
  ['overlay.truncate.dirty', 'truncate', false],
  ['overlay.setattr.resized', 'truncate', true],
  ['overlay.xattr.begun', 'setxattr that creates', false],
  ['overlay.xattr.done', 'removexattr', true],
  ['overlay.write.dirty', 'write', false],
  ['overlay.write.effect', 'write', true],
  ['overlay.fallocate.dirty', 'fallocate', false],
  ['overlay.fallocate.effect', 'fallocate', true],
  ['overlay.copy.dirty', 'copy_file_range', false],
  ['overlay.copy.effect', 'copy_file_range', true],
]

const ANSWERED = [
  ['create', 1],
  ['rename', 1],
  ['append', 2],
  ['unlink of an open file', 1],
  ['removexattr', 1],
] as const

const DRAIN: readonly Passed[] = [
  ['overlay.create.committed', 'create', true],
  ['overlay.create.committed', 'create without a name', false],
  ['overlay.link.committed', 'create without a name', true],
  ['overlay.link.committed', 'link', true],
  ['overlay.rename.committed', 'rename', true],
  ['overlay.unlink.committed', 'unlink of an open file', true],
  ['overlay.rmdir.committed', 'rmdir', true],
  ['overlay.setattr.done', 'chmod', true],
  ['overlay.setattr.resized', 'truncate', true],
  ['overlay.xattr.begun', 'removexattr', false],
  ['overlay.xattr.done', 'setxattr that creates', true],
  ['content.write.staged', 'write', true],
  ['content.truncate.intended', 'truncate', true],
  ['content.truncate.cut', 'truncate', true],
  ['content.allocate.punched', 'fallocate that punches a hole', true],
  ['overlay.fallocate.effect', 'fallocate', true],
  ['content.fsync.synced', 'fsync', true],
]

const share = <T>(all: readonly T[], mode: string, every = 2): readonly T[] =>
  gateShare(all, every, mode === 'mirror' ? 0 : 1)

describe.skipIf(!survives || whyNoMount() !== undefined).each([
  ['mirror', MIRROR, Object.keys(LOOKS)],
  ['drain', DRAIN, ['open', 'read', 'opendir']],
] as const)('in %s', (mode, passed, looks) => {
  let ferry: Ferry
  let run: CrashRun

  beforeAll(async () => {
    ferry = new Ferry({ faults: true })
    run = await CrashRun.start(ferry, mode)
  })

  afterAll(async () => {
    await ferry.clear()
  })

  test.each(share(Object.keys(CHANGES), mode, 3))(
    'P7: %s sees nothing of kills before its effect and before its answer',
    async (name) => {
      const { opcode } = operationOf(name)
      const begun = await run.begin(operationOf(name))
      await run.dies([`fuse.request.received=${opcode}`, `fuse.request.answering=${opcode}`], begun.act)
      await begun.done()
    },
  )

  test.each(ANSWERED)('P7: %s sees nothing of a kill after its answer', async (name, nth) => {
    const begun = await run.begin(operationOf(name))
    await run.dies(`fuse.request.answered=${operationOf(name).opcode}:${nth}`, begun.act)
    await begun.done()
  })

  test.each(share(looks, mode, 3))('P7: %s sees nothing of a kill', async (name) => {
    const begun = await run.begin(operationOf(name))
    await run.dies(`fuse.request.received=${operationOf(name).opcode}`, begun.act)
  })

  test.each(share(passed, mode))('P7: at %s the worker dies, %s goes on', async (point, name) => {
    const begun = await run.begin(operationOf(name))
    await run.dies(point, begun.act)
    await begun.done()
  })

  test('P7: two workers in a row die with the same request, before its effect and after it', async () => {
    for (const name of ['create', 'rename', 'append', 'unlink of an open file']) {
      const { opcode } = operationOf(name)
      const begun = await run.begin(operationOf(name))
      await run.dies([`fuse.request.answering=${opcode}`, `fuse.request.answering=${opcode}`], begun.act)
      await begun.done()
    }
  })

  test('P7: two appenders get each line in once, in whole, through a kill at every step', async () => {
    const path = `${await run.directory()}/log`
    await ferry.call.writeFile(path, '')
    const [one, two] = [ferry.as(null).call, ferry.as(null).call]
    const append = async (call: typeof one, who: string, from: number): Promise<void> => {
      const fd = await call.open(path, O_RDWR | O_APPEND)
      for (let line = from; line < from + 5; line += 1) await call.write(fd, `${who} ${line}\n`)
      await call.close(fd)
    }
    const steps = ['received=16', 'answering=16', 'answered=16', 'answering=16:3', 'answered=16:4']
    for (const [n, step] of steps.entries()) {
      await run.dies(`fuse.request.${step}`, () =>
        Promise.all([append(one, 'one', n * 5), append(two, 'two', n * 5)]),
      )
    }
    const lines = (await ferry.readAnew(path.slice(ferry.target.length + 1))).toString().trimEnd().split('\n')
    for (const who of ['one', 'two']) {
      expect(lines.filter((line) => line.startsWith(who))).toEqual(
        Array.from({ length: 25 }, (_, n) => `${who} ${n}`),
      )
    }
    expect(lines).toHaveLength(50)
  })

  test('P7: a large append is made once though each of its requests meets a kill', async () => {
    const path = `${await run.directory()}/large`
    await ferry.call.writeFile(path, 'begin')
    const body = Buffer.alloc(3 << 20, 'large ')
    const fd = await ferry.call.open(path, O_RDWR | O_APPEND)
    await run.dies(['fuse.request.answering=16', 'fuse.request.answering=16:2'], async () =>
      expect(await ferry.call.write(fd, body)).toBe(body.length),
    )
    await ferry.call.close(fd)
    const whole = await ferry.readAnew(path.slice(ferry.target.length + 1))
    expect(whole.equals(Buffer.concat([Buffer.from('begin'), body]))).toBe(true)
  })

  test('P4: after all these deaths everything is in the store and as it is shown', async () => {
    await run.settle()
    if (mode === 'mirror') {
      const shown = await ferry.call.names(ferry.target)
      expect(shown).toEqual(
        [...diskTree(ferry.source).keys()]
          .filter((path) => path.lastIndexOf('/') === 0)
          .map((path) => path.slice(1))
          .sort(),
      )
    }
  })

  test.each(passed)(
    'P2: at %s both die in the middle of %s; a new mount finds it done: %s',
    async (point, name, lasts) => {
      const begun = await run.begin(operationOf(name))
      await run.diesForGood(point, begun.act)
      if (lasts === 'partly') await begun.partly?.()
      else await (lasts ? begun.done() : begun.undone())
    },
  )

  test.each([
    ['append', 3],
    ['setxattr that creates', 1],
  ] as const)('P2: %s, answered and both dead, is there', async (name, nth) => {
    const begun = await run.begin(operationOf(name))
    await run.diesForGood(`fuse.request.answered=${operationOf(name).opcode}:${nth}`, begun.act)
    await begun.done()
  })

  test('P4: and after these it is in the store as well', async () => {
    await run.settle()
  })
})
