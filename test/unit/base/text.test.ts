import fc from 'fast-check'
import { expect, test } from 'vitest'
import { onOneLine, plainJson } from '../../../src/base/text.ts'
import { printable } from '../../../src/sys/index.ts'

const text = () => fc.string({ unit: 'binary' })

test('security: whatever a name is, it stays within its line and tells a terminal nothing', () => {
  fc.assert(
    fc.property(text(), (name) => {
      expect(onOneLine(name)).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u)
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(printable(Buffer.from(bytes))).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/u)
    }),
  )
  expect(onOneLine('a\nfailed  b\u001b[2J\u202e\u009bc')).toBe('a\\x0afailed  b\\x1b[2J\\u{202e}\\x9bc')
})

test('JSON for programs has the same value, and no more lines than without such names', () => {
  fc.assert(
    fc.property(fc.dictionary(text(), text()), (value) => {
      const json = JSON.stringify(value, undefined, 2)
      expect(JSON.parse(plainJson(json))).toEqual(value)
      expect(plainJson(json).replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e]/u)
      expect(plainJson(json).split('\n').length).toBe(json.split('\n').length)
    }),
  )
})
