import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { contentTypeOf, fileKey, pathOfFileKey } from '../../../src/store/layout.ts'
import { checkKey } from '../../../src/store/validate.ts'

/** Paths as bytes: text, random bytes, and both side by side, where a wrong cut would show. */
const piece = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 8 }).map((text) => Buffer.from(text)),
  fc.uint8Array({ minLength: 1, maxLength: 6 }).map((bytes) => Buffer.from(bytes)),
  fc
    .constantFrom('%', '%41', '%~', '%@1', '/', '\u007f', '\u0085', '\ufeff', '\uffff')
    .map((text) => Buffer.from(text)),
  // Starts of characters that are then not finished, an overlong form, a surrogate half, beyond Unicode.
  fc
    .constantFrom('c3', 'e282', 'f09f98', 'c080', 'eda080', 'f4908080', 'ff')
    .map((hex) => Buffer.from(hex, 'hex')),
)
const path = fc.array(piece, { minLength: 1, maxLength: 10 }).map((pieces) => Buffer.concat(pieces))
const longPath = fc.tuple(path, fc.integer({ min: 1, max: 20_000 }), path).map(([start, length, end]) => {
  const repeated = Buffer.alloc(length, start)
  return Buffer.concat([repeated, end])
})

describe('file keys', () => {
  test('P1: a key that is not hashed gives its path back, so two paths never share one', () => {
    fc.assert(
      fc.property(path, (bytes) => {
        expect(pathOfFileKey(fileKey(bytes))?.equals(bytes)).toBe(true)
        expect(pathOfFileKey(fileKey(bytes, '12-3'))?.equals(bytes)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })

  test('every key is one that a store takes', () => {
    fc.assert(
      fc.property(
        fc.oneof(path, longPath),
        fc.option(fc.constant('99-1'), { nil: undefined }),
        (bytes, id) => {
          checkKey('files', fileKey(bytes, id))
        },
      ),
      { numRuns: 120 },
    )
  })

  test('P1: two long paths have two keys, and a hashed key is no other path’s key', () => {
    fc.assert(
      fc.property(longPath, longPath, (one, other) => {
        expect(fileKey(one) === fileKey(other)).toBe(one.equals(other))
        const key = fileKey(one)
        const unhashed = pathOfFileKey(key)
        if (unhashed) expect(unhashed.equals(one)).toBe(true)
        else expect(key.endsWith(`%~${createHash('sha256').update(one).digest('hex')}`)).toBe(true)
      }),
      { numRuns: 120 },
    )
  })

  test('a hashed key keeps the start of the path whole', () => {
    for (const filler of ['a', 'é', '日', '😀', '\n', '\u0085']) {
      for (let shift = 0; shift < 12; shift += 1) {
        const key = fileKey(Buffer.from('x'.repeat(shift) + filler.repeat(17_000)))
        const start = key.slice(0, key.indexOf('%~'))
        expect(
          pathOfFileKey(start)
            ?.toString()
            .startsWith('x'.repeat(shift) + filler),
        ).toBe(true)
        expect(Buffer.byteLength(key)).toBeGreaterThan(16_384 - 12)
      }
    }
  })

  test('an operator can guess the key of an ordinary file', () => {
    for (const name of ['a', 'photos/2024/Zürich Café.jpg', 'a b+c&d=e?', '日本/語', '.hidden', "it's"]) {
      expect(fileKey(Buffer.from(name))).toBe(name)
    }
    expect(fileKey(Buffer.from('100%\n.txt'))).toBe('100%25%0A.txt')
    expect(fileKey(Buffer.from('\u007f\u0085'))).toBe('%7F%C2%85')
    expect(fileKey(Buffer.from([0x66, 0xfc, 0x72, 0xc3]))).toBe('f%FCr%C3')
  })

  test('a second file of one path gets a key of its own, which no path has', () => {
    expect(fileKey(Buffer.from('a.txt'), '7-1')).toBe('a.txt%@7-1')
    expect(fileKey(Buffer.from('a.txt%@7-1'))).toBe('a.txt%25@7-1')
  })

  test('what is no file key has no path', () => {
    for (const key of ['', '%', '%4', '%4g', '%ff', '%~00', '%@1']) expect(pathOfFileKey(key)).toBeUndefined()
    expect(() => fileKey(Buffer.alloc(0))).toThrow(RangeError)
  })
})

test('the content type follows the extension and nothing else', () => {
  expect(contentTypeOf('a/b.HTML')).toBe('text/html')
  expect(contentTypeOf('a.tar.gz')).toBe('application/gzip')
  expect(contentTypeOf('a.txt%@12-1')).toBe('text/plain')
  for (const name of ['html', '.html', 'a/.html', 'a.html/b', 'a.', 'a.constructor', 'a.unknown', '']) {
    expect(contentTypeOf(name)).toBe('application/octet-stream')
  }
})
