import { afterAll, beforeAll } from 'vitest'
import { posixSuite } from '../../posix/suite.ts'
import { Ferry } from '../../support/mount/ferry.ts'
import { describeNative } from './native.ts'

const CALLER = 'the caller is not known: what anybody creates belongs to the user who mounted'
const TIMES = 'times in milliseconds'
const OLD = 'no times before 1970'
const NAMES = 'names that are not UTF-8 are refused'
const FLAGS = 'no flags of renameat2'
const ALLOCATE = 'no fallocate'
const LISTS = 'no access control lists'

/** Cases that fuse-native cannot pass, each with the limit in docs/transports.md that it meets. */
const EXPECTATIONS: Readonly<Record<string, readonly string[]>> = {
  [CALLER]: [
    'ownership: everything that is created belongs to its creator, user and group',
    'ownership: a hard link and a rename by another user leave the owner as it was',
    'ownership: writing to a file of somebody else does not change its owner',
    'ownership: a setgid directory hands its group to everything made in it',
    'ownership: in a setgid directory only a member of its group creates setgid executables',
    'ownership: an owner moves a file to a group of his, and to no other',
    'permissions: a directory without x cannot be passed, without r not listed, without w not changed',
    'permissions: a descriptor keeps the access that it was opened with',
    'permissions: in a sticky directory only owners remove and rename',
    'permissions: truncate by path needs write permission, utimes explicit times the owner',
    'permissions: a program runs if its bits let the caller, a script too',
    'xattrs: trusted attributes are for root alone, on links too',
  ],
  [LISTS]: [
    'access control lists: a named user gets what the list says, as far as the mask lets him',
    'access control lists: a named group too, and a denied user is not helped by the others',
    'access control lists: a list can be removed',
    'access control lists: a default list is inherited, and takes the place of the umask',
    'access control lists: a default list of plain entries gives plain modes',
    'access control lists: only the owner sets a list',
    'access control lists: mode bits and list are two views of one thing',
  ],
  [TIMES]: [
    'times: utimensat sets both times to the nanosecond, each to its own',
    'times: UTIME_OMIT leaves one time alone',
    'times: UTIME_NOW takes the present for one time and leaves the other to its value',
    'times: nanoseconds out of range are refused',
    'times: a symbolic link has times of its own',
    'times: futimens sets the times of an open file, a directory and an unlinked file',
    'times: times set while a written file is open survive its closing',
    'times: reading, looking and syncing move neither',
    'times: a change of anything but content moves ctime only',
    'times: a rename leaves the times of the file, and moves those of both directories',
    'times: a directory does not move with what happens inside its entries',
    'inodes: hard links are one file: number, content, mode, times, count',
    'unlinked: its mode, owner, times and attributes can still be changed and read',
  ],
  [OLD]: ['times: times before 1970 and after 2038 are kept'],
  [NAMES]: [
    'names: every byte but "/" and NUL is a name',
    'names: names that are not UTF-8, or look alike, stay what they are',
    'names: a name has up to 255 bytes, one more is ENAMETOOLONG in every call',
    'symlinks: a link holds any bytes, up to 4,095 of them, as they are',
    'xattrs: values are bytes, names are bytes, both come back as they were',
    'programs: tar there and back loses nothing',
    'programs: cp -a copies everything',
    'programs: rsync -aHAX copies everything, and finds nothing to do the second time',
    'programs: mv of a tree keeps everything',
    'programs: find, du and rm see and remove all of it',
  ],
  [FLAGS]: [
    'inodes: a rename over a file brings the inode number of the source, an exchange swaps them',
    'renaming: RENAME_NOREPLACE moves to a free name and fails on one that is taken',
    'renaming: RENAME_EXCHANGE swaps any two, of different types and directories too',
    'renaming: RENAME_WHITEOUT leaves a device 0:0 under the old name, as overlayfs wants it',
  ],
  [ALLOCATE]: [
    'privileges: so does every other way to change the content',
    'space: fallocate extends with zeros, with KEEP_SIZE it only reserves',
    'space: a punched hole reads as zeros, aligned or not, and leaves the size',
    'space: a zeroed range reads as zeros and grows the file unless told not to',
  ],
  'no SEEK_HOLE': ['space: SEEK_DATA and SEEK_HOLE find the holes'],
  'an open of a name that is being replaced may find the file that goes': [
    'renaming: a replaced name is never absent and never half: readers see the old or the new',
  ],
  'hard links are files of their own to the kernel': [
    'special files: a fifo works under its new name and its second one',
  ],
  'a removed directory cannot be used any more': [
    'directories: a directory that somebody is in can be removed, and is empty and barren then',
  ],
}

describeNative('the overlay on fuse-native', () => {
  let ferry: Ferry

  beforeAll(async () => {
    ferry = new Ferry()
    await ferry.mount('--transport', 'fuse-native')
    await ferry.call.chmod(ferry.target, 0o755)
  })

  afterAll(() => ferry.clear())

  posixSuite({
    name: 'a mount by fuse-native',
    directory: () => ferry.target,
    expectations: new Map(
      Object.entries(EXPECTATIONS).flatMap(([reason, names]) => names.map((name) => [name, reason])),
    ),
    entries: 150,
  })
})
