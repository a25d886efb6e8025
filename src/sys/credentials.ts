import koffi from 'koffi'
import { NOBODY } from './disk-call.ts'

const libc = koffi.load('libc.so.6')
const setfsuid = libc.func('int setfsuid(unsigned int)')
const setfsgid = libc.func('int setfsgid(unsigned int)')
const umask = libc.func('unsigned int umask(unsigned int)')
const unshare = libc.func('int unshare(int)')
const capget = libc.func('int capget(void *, void *)')
const capset = libc.func('int capset(void *, void *)')
// glibc's own would change the groups of every thread.
const syscall = libc.func('long syscall(long, long, void *)')

// linux/sched.h, linux/capability.h, asm/unistd.h
const CLONE_FS = 0x200
const CAPABILITY_VERSION_3 = 0x20080522
const CAP_SYS_RESOURCE = 24
const EFFECTIVE = 0
const SYS_SETGROUPS: Readonly<Record<string, number>> = { x64: 116, arm64: 159 }

/**
 * In whose name this thread makes system calls. What a file system keeps for root, and what it grants a user by quota, it judges
 * by who allocates (fsuid, groups, CAP_SYS_RESOURCE). Every other capability stays: whether the caller may do what he
 * asks for the kernel has checked before it asked us.
 */
export class Credentials {
  readonly #header = Buffer.alloc(8)
  readonly #own = Buffer.alloc(24)
  readonly #without = Buffer.alloc(24)
  readonly #canChange: boolean
  #uid = NOBODY
  #gid = NOBODY
  #umask = 0

  constructor() {
    // A umask of this thread's own: one that is late must not get that of another call.
    unshare(CLONE_FS)
    umask(0)
    this.#header.writeUInt32LE(CAPABILITY_VERSION_3, 0)
    this.#canChange = process.geteuid?.() === 0 && capget(this.#header, this.#own) === 0
    this.#own.copy(this.#without)
    this.#without.writeUInt32LE(
      (this.#own.readUInt32LE(EFFECTIVE) & ~(1 << CAP_SYS_RESOURCE)) >>> 0,
      EFFECTIVE,
    )
    const setgroups = SYS_SETGROUPS[process.arch]
    if (this.#canChange && setgroups !== undefined) syscall(setgroups, 0, null)
  }

  /** `NOBODY`: in the daemon's own name. */
  take(uid: number, gid: number, mask: number): void {
    if (mask !== this.#umask) {
      umask(mask)
      this.#umask = mask
    }
    if (!this.#canChange || (uid === this.#uid && gid === this.#gid)) return
    this.#uid = uid
    this.#gid = gid
    const isOwn = uid === NOBODY || uid === 0
    setfsgid(gid === NOBODY ? 0 : gid >>> 0)
    setfsuid(isOwn ? 0 : uid >>> 0)
    // setfsuid(2) takes the capabilities for files away with the user, and gives them back.
    capset(this.#header, isOwn ? this.#own : this.#without)
  }
}
