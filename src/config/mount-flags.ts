/** Options of mount(8) that take something away from those who use a mount; `--options` takes no others. */
export const MOUNT_FLAGS = [
  'ro',
  'nosuid',
  'nodev',
  'noexec',
  'nosymfollow',
  'noatime',
  'nodiratime',
  'relatime',
  'strictatime',
] as const
export type MountFlag = (typeof MOUNT_FLAGS)[number]

const ATIME_FLAGS: ReadonlySet<string> = new Set(['noatime', 'relatime', 'strictatime'])

export function isMountFlag(text: string): text is MountFlag {
  return (MOUNT_FLAGS as readonly string[]).includes(text)
}

/** The flags of a list such as `nosuid,noatime`; undefined if there is another word in it. */
export function parseMountFlags(text: string): MountFlag[] | undefined {
  const words = text.split(',').filter((word) => word !== '')
  return words.every(isMountFlag) ? words : undefined
}

/** What /proc/self/mountinfo says of a mount, as flags; that of its file system counts as well. */
export function flagsOfMount(mount: {
  readonly flags: readonly string[]
  readonly options: string
}): MountFlag[] {
  const flags = mount.flags.filter(isMountFlag)
  if (mount.options.split(',').includes('ro') && !flags.includes('ro')) flags.push('ro')
  // Neither of the others is how the kernel says "strictatime".
  if (!flags.some((flag) => ATIME_FLAGS.has(flag))) flags.push('strictatime')
  return flags
}

/** Both together: what one takes away the other does not give back. Of two ways to keep access times the second one's counts. */
export function mergeMountFlags(source: readonly MountFlag[], wanted: readonly MountFlag[]): MountFlag[] {
  const decided = wanted.some((flag) => ATIME_FLAGS.has(flag)) && !source.includes('noatime')
  const kept = decided ? source.filter((flag) => !ATIME_FLAGS.has(flag)) : source
  const added = source.includes('noatime') ? wanted.filter((flag) => !ATIME_FLAGS.has(flag)) : wanted
  return [...new Set([...kept, ...added])]
}
