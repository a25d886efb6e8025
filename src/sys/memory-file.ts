import koffi from 'koffi'
import { errnoName } from '../base/errors.ts'
import { cstring, declareHere } from './library.ts'

const memfdCreate = declareHere('int memfd_create(const char *, unsigned int)')

// sys/mman.h
const MFD_CLOEXEC = 1

/** A file in memory that is there as long as anybody has it open; the name is only shown. @throws Error where the kernel has none */
export function memoryFile(name: string): number {
  const descriptor = memfdCreate(cstring(Buffer.from(name)), MFD_CLOEXEC)
  if (descriptor === -1) throw new Error(`memfd_create: ${errnoName(koffi.errno())}`)
  return descriptor
}
