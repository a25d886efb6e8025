import type { FileNode } from './tree.ts'

/** `data` with `bytes` at `offset`, zeros in between where it was shorter. */
export function overwritten(data: Buffer, offset: number, bytes: Buffer): Buffer {
  if (bytes.length === 0) return data
  const result = Buffer.alloc(Math.max(data.length, offset + bytes.length))
  data.copy(result)
  bytes.copy(result, offset)
  return result
}

export function resized(data: Buffer, size: number): Buffer {
  if (size <= data.length) return data.subarray(0, size)
  const result = Buffer.alloc(size)
  data.copy(result)
  return result
}

/** The file after a change that took place. */
export function changed(file: FileNode, change: (data: Buffer) => Buffer): FileNode {
  return {
    ...file,
    data: change(file.data),
    others: file.others.map(change),
    unsynced: [...file.unsynced, file.data, ...file.others],
    mtime: undefined,
  }
}

/** The file after a change that may have taken place in part. */
export function doubted(file: FileNode, change: (data: Buffer) => Buffer): FileNode {
  return {
    ...file,
    others: [...file.others, ...[file.data, ...file.others].map(change)],
    mtime: undefined,
  }
}

export function sizeBounds({ data, others }: FileNode): readonly [least: number, most: number] {
  const sizes = [data, ...others].map(({ length }) => length)
  return [Math.min(...sizes), Math.max(...sizes)]
}

/** What is wrong with the bytes that a read of `length` at `offset` gave; undefined where they may be there. */
export function misread(file: FileNode, offset: number, length: number, got: Buffer): string | undefined {
  const { data, others } = file
  if (others.length === 0) {
    const expected = data.subarray(offset, offset + length)
    if (expected.equals(got)) return undefined
    if (expected.length !== got.length) {
      return `${got.length} bytes at ${offset}, not ${expected.length}${firstDifference(expected, got, offset)}`
    }
    return `other bytes${firstDifference(expected, got, offset)}`
  }
  if ([data, ...others].some((one) => one.subarray(offset, offset + length).equals(got))) return undefined
  const [least, most] = sizeBounds(file)
  const end = offset + got.length
  if (end > most && got.length > 0) return `bytes up to ${end} of a file that ends at ${most} at most`
  if (got.length < length && end < least)
    return `the end at ${end} of a file that has ${least} bytes at least`
  for (let index = 0; index < got.length; index += 1) {
    const byte = got[index]
    if (![data, ...others].some((one) => (one[offset + index] ?? 0) === byte)) {
      return `byte ${byte} at ${offset + index}, which nobody wrote`
    }
  }
  return undefined
}

function firstDifference(expected: Buffer, got: Buffer, offset: number): string {
  const length = Math.min(expected.length, got.length)
  for (let index = 0; index < length; index += 1) {
    if (expected[index] !== got[index]) {
      const rest = got.subarray(index, index + 64)
      const zeros = rest.length > 0 && rest.every((byte) => byte === 0)
      return `, first at ${offset + index}: ${got[index]} instead of ${expected[index]}${zeros ? ' (zeros)' : ''}`
    }
  }
  return ', equal as far as both go'
}
