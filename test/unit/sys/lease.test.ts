import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { OpenWriters } from '../../../src/legacy/index.ts'
import { statDescriptor, underLease } from '../../../src/sys/index.ts'

let directory: string
let path: string
let descriptor: number

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'ferryfs-lease-'))
  path = join(directory, 'file')
  writeFileSync(path, 'x')
  descriptor = openSync(path, 'r')
})

afterEach(() => {
  closeSync(descriptor)
  rmSync(directory, { recursive: true })
})

const writers = (): string => underLease(descriptor, (known) => known)

test('P3: a file that somebody has open for writing has writers until it is closed, and readers are none', () => {
  const reader = openSync(path, 'r')
  expect(writers()).toBe('none')
  const writer = openSync(path, 'a')
  expect(writers()).toBe('some')
  closeSync(writer)
  expect(writers()).toBe('none')
  closeSync(reader)
})

test('P6: the lease is gone with the body, also where that throws: nobody waits for it', () => {
  const fail = (): never => {
    throw new Error('no')
  }
  expect(() => underLease(descriptor, fail)).toThrow('no')
  closeSync(openSync(path, 'a'))
  expect(writers()).toBe('none')
})

test('P3: a writer is named, unless it is one of those that are not to be looked at', async () => {
  const writer = openSync(path, 'r+')
  const stat = statDescriptor(descriptor)
  const name = Buffer.from('file')
  expect(await new OpenWriters(new Set()).of(stat, name)).toMatchObject({ pid: process.pid, path })
  expect(await new OpenWriters(new Set([process.pid])).of(stat, name)).toBeUndefined()
  expect(await new OpenWriters(new Set()).of({ ...stat, ino: stat.ino + 1n }, name)).toBeUndefined()
  closeSync(writer)
})
