import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { clock } from '../../support/rig/clock.ts'
import { atPoint } from '../../support/rig/crash.ts'
import { fillDisk, freeDisk } from '../../support/rig/full-disk.ts'
import { Rig } from '../../support/rig/rig.ts'
import { expectSettled } from '../../support/rig/settled.ts'

let rig: Rig

afterEach(async () => {
  freeDisk(rig.catalogPath)
  await rig.stop()
})

test('P4: a run that failed half way is over, so that legacy copies go meanwhile, and is made again by itself', async () => {
  rig = await Rig.start({
    mode: 'drain',
    fill: (source) => {
      // More than are looked at in one transaction.
      for (let file = 0; file < 100; file += 1) writeFileSync(join(source, `f${file}`), 'content')
    },
  })
  const { mover } = rig.built
  let before: string | undefined
  atPoint('content.upload.claimed', () => {
    before = mover.state
    fillDisk(rig.catalogPath)
  })
  await expect(rig.migrate()).rejects.toMatchObject({ code: 'ENOSPC' })
  expect([before, mover.state]).toEqual(['running', 'idle'])
  atPoint('content.upload.claimed', undefined)
  freeDisk(rig.catalogPath)
  await clock.untilTrue(() => mover.state === 'done')
  await expectSettled(rig)
})

// The store answered, but never for these: the run waited for it for ever, and with as many of them as files are copied at once
// it did not even come to the others.
test('P6: files that the store takes at no time keep a run neither from the others nor from its end', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      for (let file = 0; file < 20; file += 1) writeFileSync(join(source, `f${file}`), 'content')
    },
  })
  rig.world.inject({ fault: 'unavailable', on: ['put'], space: 'files', key: /^f\d$/ })
  expect(await rig.migrate()).toMatchObject({ remaining: 10 })
  expect(rig.catalog.lists.failures(undefined, 20)).toHaveLength(10)
  rig.world.heal()
  await clock.untilTrue(() => rig.built.mover.state === 'done')
  expect(rig.catalog.lists.failures(undefined, 20)).toEqual([])
  await expectSettled(rig)
})

test('P4: a run beside a writer ends once all that was there at its start is in, and tells apart what changed since', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      for (let file = 0; file < 10; file += 1) writeFileSync(join(source, `f${file}`), 'content')
    },
  })
  let writes = 0
  // Whenever a file is in, another has been changed past the mount, and one is there that was not.
  atPoint('content.upload.recorded', () => {
    if (writes >= 10) return
    writeFileSync(join(rig.source, `f${writes}`), `changed ${writes}`)
    writes += 1
  })
  const report = await rig.migrate()
  atPoint('content.upload.recorded', undefined)
  expect(report).toMatchObject({ remaining: 0 })
  await clock.untilTrue(() => rig.built.mover.state === 'done')
  await expectSettled(rig)
})

test('P4: a file that is written to all the time is told apart from one that the store does not take', async () => {
  rig = await Rig.start({
    mode: 'mirror',
    fill: (source) => {
      for (const name of ['log', 'refused']) writeFileSync(join(source, name), 'content')
    },
  })
  rig.world.inject({ fault: 'unavailable', on: ['put'], space: 'files', key: /^refused$/ })
  let writes = 0
  atPoint('content.upload.object-stored', () => {
    writes += 1
    writeFileSync(join(rig.source, 'log'), `written ${writes}`)
  })
  const report = await rig.migrate()
  atPoint('content.upload.object-stored', undefined)
  expect(report).toMatchObject({ remaining: 1, changed: 1 })
  rig.world.heal()
  await clock.untilTrue(() => rig.built.mover.state === 'done')
  await expectSettled(rig)
})
