import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  formatBytes,
  formatDuration,
  parseDuration,
  parseRate,
  parseSize,
} from '../../../src/config/units.ts'

describe('sizes, rates and durations', () => {
  it.each([
    ['0', 0],
    ['1048576', 1048576],
    ['64MiB', 64 * 1024 ** 2],
    ['64 MiB', 64 * 1024 ** 2],
    ['64m', 64 * 1024 ** 2],
    ['64MB', 64e6],
    ['1.5GiB', 1.5 * 1024 ** 3],
    ['2T', 2 * 1024 ** 4],
    ['512b', 512],
  ])('size %s is %d bytes', (text, bytes) => {
    expect(parseSize(text)).toBe(bytes)
  })

  it.each(['', '-1', '1e9', 'MiB', '64XiB', '1 2', 'Infinity', '9999999PiB', '0x10', '64MiB/s'])(
    '%j is no size',
    (text) => {
      expect(parseSize(text)).toBeUndefined()
    },
  )

  it.each([
    ['10MiB/s', 10 * 1024 ** 2],
    ['10MiB', 10 * 1024 ** 2],
    ['0', 0],
  ])('rate %s is %d bytes a second', (text, rate) => {
    expect(parseRate(text)).toBe(rate)
  })

  it.each([
    ['500ms', 500],
    ['30s', 30_000],
    ['1.5m', 90_000],
    ['2min', 120_000],
    ['1h', 3_600_000],
  ])('duration %s is %d ms', (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds)
  })

  it.each(['30', '', 's', '5 parsecs', '-1s'])('%j is no duration', (text) => {
    expect(parseDuration(text)).toBeUndefined()
  })

  it('reads back any whole number of bytes in every unit', () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom('KiB', 'MiB', 'GiB', 'K', 'M', 'G'), (count, unit) => {
        const factor = 1024 ** ('KMG'.indexOf(unit.charAt(0)) + 1)
        const bytes = count * factor
        expect(parseSize(`${count}${unit}`)).toBe(Number.isSafeInteger(bytes) ? bytes : undefined)
      }),
    )
  })

  it('what is shown of a size is within a tenth of it', () => {
    fc.assert(
      fc.property(fc.nat({ max: 2 ** 50 }), (bytes) => {
        const shown = parseSize(formatBytes(bytes)) ?? Number.NaN
        expect(Math.abs(shown - bytes)).toBeLessThanOrEqual(bytes / 10)
      }),
    )
  })

  it.each([
    [0, '0s'],
    [59.4, '59s'],
    [60, '1m 00s'],
    [3599, '59m 59s'],
    [3661, '1h 01m'],
    [187_200, '2d 4h'],
  ])('%d seconds are shown as %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text)
  })
})
