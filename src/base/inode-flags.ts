/** Flags of chattr(1) that keep a file from being changed, as ioctl_iflags(2) and statx(2) number them. */
export const FLAG_IMMUTABLE = 0x10
export const FLAG_APPEND = 0x20
/** Those that ferryfs keeps of a file that has left the volume. */
export const GUARDS = FLAG_IMMUTABLE | FLAG_APPEND

interface Flagged {
  readonly flags?: number | undefined
}

export const isImmutable = ({ flags = 0 }: Flagged): boolean => (flags & FLAG_IMMUTABLE) !== 0
export const isAppendOnly = ({ flags = 0 }: Flagged): boolean => (flags & FLAG_APPEND) !== 0
export const isGuarded = ({ flags = 0 }: Flagged): boolean => (flags & GUARDS) !== 0

/** For a message. */
export const guardIn = (flagged: Flagged): string =>
  isImmutable(flagged) ? 'the immutable flag' : 'the append-only flag'
