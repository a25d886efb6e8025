// A thread that makes system calls on one disk for somebody who does not want to be the one that hangs in them.
import { parentPort, workerData } from 'node:worker_threads'
import koffi from 'koffi'
import { Credentials } from './credentials.ts'
import {
  ARGUMENTS,
  CALL,
  type CallMemory,
  callMemory,
  COUNT,
  ERRNO,
  FUNCTION,
  GID,
  KIND_NUMBER,
  KINDS,
  READY,
  RESULT,
  SIGNATURE_BYTES,
  STATE,
  State,
  UID,
  UMASK,
} from './disk-call.ts'

const { shared, answersByMessage } = workerData as { shared: SharedArrayBuffer; answersByMessage: boolean }
const memory = callMemory(shared)
const credentials = new Credentials()
const libc = koffi.load('libc.so.6')
const functions = new Map<number, (...args: unknown[]) => number | bigint>()

function functionOf({ control, data }: CallMemory): (...args: unknown[]) => number | bigint {
  const index = control[FUNCTION] ?? 0
  const known = functions.get(index)
  if (known) return known
  const end = data.length
  const signature = data.toString('latin1', end - (control[SIGNATURE_BYTES] ?? 0), end)
  const made = libc.func(signature) as (...args: unknown[]) => number | bigint
  functions.set(index, made)
  return made
}

function perform(asked: CallMemory): void {
  const { control, numbers, data } = asked
  const args: unknown[] = []
  for (let nth = 0; nth < (control[COUNT] ?? 0); nth += 1) {
    const kind = control[KINDS + nth] ?? KIND_NUMBER
    const value = numbers[ARGUMENTS + nth] ?? 0n
    args.push(kind === KIND_NUMBER ? value : data.subarray(Number(value), Number(value) + kind))
  }
  const call = functionOf(asked)
  credentials.take(control[UID] ?? 0, control[GID] ?? 0, control[UMASK] ?? 0)
  const result = BigInt(call(...args))
  control[ERRNO] = result === -1n ? koffi.errno() : 0
  numbers[RESULT] = result
}

const { control } = memory
Atomics.store(control, READY, 1)
Atomics.notify(control, READY)
// By its number and not by its state: whoever asked may have given up before this thread got a turn at all. The call is made all the
// same, for until it has ended nothing else is asked for.
for (let call = 0; ; ) {
  while (Atomics.load(control, CALL) === call) Atomics.wait(control, CALL, call)
  call = Atomics.load(control, CALL)
  perform(memory)
  const isLate = Atomics.compareExchange(control, STATE, State.asked, State.done) === State.late
  if (isLate || answersByMessage) parentPort?.postMessage('done')
  else Atomics.notify(control, STATE)
}
