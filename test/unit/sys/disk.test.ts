import { execFileSync } from 'node:child_process'
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Unanswered } from '../../../src/base/errors.ts'
import {
  chmodDescriptor,
  closeDescriptor,
  closeWritten,
  Disk,
  diskOf,
  getXattr,
  mkdirAt,
  openAt,
  readDirectory,
  setXattr,
  spaceOf,
  statAt,
  statDescriptor,
  symlinkAt,
  readlinkAt,
} from '../../../src/sys/index.ts'
import { openOn } from '../../../src/sys/files.ts'
import { cstring, declareOn } from '../../../src/sys/library.ts'

const isRoot = process.geteuid?.() === 0

describe('a disk whose calls are made by a thread of its own', () => {
  let directory: string
  let disk: Disk
  let root: number
  let changes: boolean[]

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'ferryfs-disk-'))
    changes = []
    disk = new Disk('the disk', {
      patienceMs: 300,
      deadlineMs: 300,
      onChange: (answers) => changes.push(answers),
    })
    root = openOn(disk, directory, constants.O_RDONLY | constants.O_DIRECTORY)
  })

  afterEach(() => {
    closeDescriptor(root)
    disk.end()
    rmSync(directory, { recursive: true, force: true })
  })

  const name = (text: string): Buffer => Buffer.from(text)

  test('P6: a call that is given up before the thread had a turn is made all the same, and the disk answers again', async () => {
    const impatient = new Disk('the disk', { patienceMs: 0 })
    try {
      let givenUp = 0
      for (let nth = 0; nth < 200; nth += 1) {
        try {
          closeDescriptor(openOn(impatient, directory, constants.O_RDONLY | constants.O_DIRECTORY))
        } catch (error) {
          if (!(error instanceof Unanswered)) throw error
          givenUp += 1
          await error.back
        }
      }
      expect(givenUp).toBeGreaterThan(0)
      await expect.poll(() => impatient.answers).toBe(true)
    } finally {
      impatient.end()
    }
  })

  test('P6: whatever is opened by way of the disk is of that disk', () => {
    const open = declareOn('int openat(int, const char *, int, int)', true)
    const again = open(root, root, cstring(name('.')), constants.O_RDONLY | constants.O_DIRECTORY, 0)
    expect(diskOf(again)).toBe(disk)
    closeDescriptor(again)
    expect(diskOf(again)).toBeUndefined()
    expect(open(root, root, cstring(name('nobody')), constants.O_RDONLY, 0)).toBe(-1)
    expect(diskOf(-1)).toBeUndefined()
  })

  /** A call that hangs until somebody opens the pipe for writing. */
  function hang(): Unanswered {
    execFileSync('mkfifo', [join(directory, 'pipe')])
    try {
      openAt(root, name('pipe'), constants.O_RDONLY)
    } catch (error) {
      if (error instanceof Unanswered) return error
    }
    throw new Error('it did not hang')
  }

  const release = (): void => closeSync(openSync(join(directory, 'pipe'), constants.O_WRONLY))

  test('P1: calls do and answer what they do without a thread', () => {
    mkdirAt(root, name('d'), 0o700)
    writeFileSync(join(directory, 'f'), 'abc')
    symlinkAt(name('x'.repeat(4000)), root, name('l'))
    const file = openAt(root, name('f'), constants.O_RDWR)
    chmodDescriptor(file, 0o604)
    setXattr(root, name('f'), name('user.a'), Buffer.alloc(3000, 7), 0)
    expect(getXattr(root, name('f'), name('user.a'))).toEqual(Buffer.alloc(3000, 7))
    expect(statDescriptor(file).mode & 0o777).toBe(0o604)
    expect(statAt(root, name('f')).ino).toBe(statSync(join(directory, 'f'), { bigint: true }).ino)
    expect(readlinkAt(root, name('l')).length).toBe(4000)
    expect(
      readDirectory(root)
        .map((entry) => entry.name.toString())
        .sort(),
    ).toEqual(['d', 'f', 'l'])
    expect(spaceOf(root).blocks).toBeGreaterThan(0n)
    expect(() => mkdirAt(root, name('d'), 0o700)).toThrow('EEXIST')
    closeDescriptor(file)
  })

  test('P6: who asks a disk that hangs is told so, everybody else at once, and all is as before when it answers', async () => {
    const { begun, back } = hang()
    expect(begun).toBe(true)
    expect(disk.answers).toBe(false)
    expect(() => statAt(root, name('pipe'))).toThrow(expect.objectContaining({ code: 'EIO', begun: false }))
    await expect(disk.during(async () => 1)).rejects.toThrow('does not answer')
    await expect(disk.write(root, Buffer.from('x'), 0)).rejects.toThrow('does not answer')
    release()
    await back
    expect(changes).toEqual([false, true])
    expect(statAt(root, name('pipe')).size).toBe(0)
  })

  test('P6: what hangs in the thread pool ends its caller, and nothing else is begun behind it', async () => {
    const hanging = Promise.withResolvers<number>()
    const late = disk.during(() => hanging.promise)
    const waiting = disk.during(async () => 2)
    expect(await waiting).toBe(2)
    await expect(late).rejects.toThrow(expect.objectContaining({ begun: true }))
    expect(() => statAt(root, name('x'))).toThrow(expect.objectContaining({ begun: false }))
    const refused = await disk.during(async () => 3).catch((error: unknown) => error)
    hanging.resolve(1)
    if (refused instanceof Unanswered) await refused.back
    expect(disk.answers).toBe(true)
    expect(await disk.during(async () => 4)).toBe(4)
  })

  test('P6: closing what was written keeps nobody, and comes when the disk answers again', async () => {
    const file = openAt(root, name('f'), constants.O_RDWR | constants.O_CREAT, 0o600)
    const other = openAt(root, name('g'), constants.O_RDWR | constants.O_CREAT, 0o600)
    await closeWritten(file)
    expect([diskOf(file), existsSync(`/proc/self/fd/${file}`)]).toEqual([undefined, false])
    const { back } = hang()
    await expect(closeWritten(other)).rejects.toThrow(expect.objectContaining({ begun: false }))
    expect(existsSync(`/proc/self/fd/${other}`)).toBe(true)
    release()
    await back
    expect(existsSync(`/proc/self/fd/${other}`)).toBe(false)
  })

  test('P1: writes come in the order of their offsets, however long they are', async () => {
    const bytes = Buffer.alloc(2_500_000, 'abcdefg')
    const file = openAt(root, name('f'), constants.O_RDWR | constants.O_CREAT, 0o600)
    const disk = new Disk('the disk')
    for (let done = 0; done < bytes.length; ) done += await disk.write(file, bytes.subarray(done), done)
    expect(readFileSync(join(directory, 'f')).equals(bytes)).toBe(true)
    await expect(disk.write(root, bytes, 0)).rejects.toThrow('EBADF')
    closeDescriptor(file)
    disk.end()
  })

  test.runIf(isRoot)(
    'what is made in the name of somebody is his, with his umask, and what comes after is not',
    () => {
      disk.as({ uid: 1234, gid: 2345, umask: 0o027 }, () => mkdirAt(root, name('his'), 0o777))
      mkdirAt(root, name('ours'), 0o777)
      const his = statAt(root, name('his'))
      expect([his.uid, his.gid, his.mode & 0o777]).toEqual([1234, 2345, 0o750])
      const ours = statAt(root, name('ours'))
      expect([ours.uid, ours.mode & 0o777]).toEqual([0, 0o777])
    },
  )
})
