/** What `--self-test` runs; broken/overlays.ts has each of them. */
export const BROKEN_NAMES: readonly string[] = [
  'stale-read',
  'lost-write',
  'lying-fsync',
  'early-delete',
  'swallowed-enospc',
  'wrong-byte',
  'resurrection',
  'lost-rename',
  'dropped-entry',
  'truncated-tail',
  'wrong-mode',
  'repeated-effect',
  'zeros-for-errors',
  'record-never-sent',
  'lost-again',
]
