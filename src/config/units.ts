const SIZE_FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: 1024,
  kib: 1024,
  kb: 1e3,
  m: 1024 ** 2,
  mib: 1024 ** 2,
  mb: 1e6,
  g: 1024 ** 3,
  gib: 1024 ** 3,
  gb: 1e9,
  t: 1024 ** 4,
  tib: 1024 ** 4,
  tb: 1e12,
  p: 1024 ** 5,
  pib: 1024 ** 5,
  pb: 1e15,
}

const DURATION_FACTORS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
}

function scaled(text: string, factors: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?) ?([a-z]*)$/i.exec(text.trim())
  const factor = factors[(match?.[2] ?? '?').toLowerCase()]
  if (!match || factor === undefined) return undefined
  const value = Math.round(Number(match[1]) * factor)
  return Number.isSafeInteger(value) ? value : undefined
}

/** Bytes of `64MiB`, `64M` (both 1024-based, as dd reads them), `64MB` (1000-based) or `67108864`; else undefined. */
export function parseSize(text: string): number | undefined {
  return scaled(text, SIZE_FACTORS)
}

/** Bytes per second of `10MiB`, `10MiB/s` or `0`; else undefined. */
export function parseRate(text: string): number | undefined {
  return parseSize(text.trim().replace(/\/s$/i, ''))
}

/** Milliseconds of `500ms`, `30s`, `5m` or `1h`; a number without a unit says nothing and is undefined. */
export function parseDuration(text: string): number | undefined {
  return scaled(text, DURATION_FACTORS)
}

const BINARY_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** `1.4 GiB`, for people. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 'B'
  for (const next of BINARY_UNITS) {
    if (value < 1024) break
    value /= 1024
    unit = next
  }
  return unit === 'B' ? `${value} B` : `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`
}

/** `2d 4h`, `4h 12m`, `3m 05s` or `12s`, for people. */
export function formatDuration(totalSeconds: number): string {
  const seconds = Math.round(totalSeconds)
  if (seconds < 60) return `${seconds}s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes}m ${String(seconds % 60).padStart(2, '0')}s`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return `${hours}h ${String(minutes % 60).padStart(2, '0')}m`
  return `${Math.floor(hours / 24)}d ${hours % 24}h`
}
