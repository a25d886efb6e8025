import { readFileSync } from 'node:fs'

/** Names the life of this machine from one start to the next: what only the page cache had is gone with it. */
export const currentBoot = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
