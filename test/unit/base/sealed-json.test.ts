import { describe, expect, test } from 'vitest'
import { sealJson, unsealJson } from '../../../src/base/sealed-json.ts'

const VALUE = { format: 1, source: '/srv/dåta', target: null, settings: { mode: 'drain' }, list: ['"crc32"'] }

describe('P1: a small file of the state directory with a bit flipped', () => {
  test('says what was written, whichever bit it is', () => {
    const whole = Buffer.from(sealJson(VALUE))
    expect(unsealJson(whole)).toEqual(VALUE)
    for (let bit = 0; bit < whole.length * 8; bit += 1) {
      const flipped = Buffer.from(whole)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(unsealJson(flipped), `bit ${bit}`).toEqual(VALUE)
    }
  })

  test('two bits are found', () => {
    const whole = sealJson(VALUE)
    expect(() => unsealJson(Buffer.from(whole.replace('drain', 'drbjn')))).toThrow('not what was written')
    expect(() => unsealJson(Buffer.from(whole.slice(0, 40)))).toThrow(SyntaxError)
  })

  test('one of an earlier ferryfs, or that a person has changed, is taken as it is', () => {
    expect(unsealJson(Buffer.from('{"id": "x"}'))).toEqual({ id: 'x' })
    expect(() => unsealJson(Buffer.from('[1]'))).toThrow('no JSON object')
  })
})
