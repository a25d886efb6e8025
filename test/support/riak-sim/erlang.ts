/**
 * Text of the error that a connection's process sends when it dies of a message (riak_api_pb_server:connected/2):
 * `Error processing incoming message: Class:Reason:StackTrace`. Only its length is on record, and its beginning known
 * from the source, so the stack trace is filled up to that length.
 */
export function processingError(reason: string, length: number): string {
  const start = `Error processing incoming message: error:${reason}:[{riak_api_pb_server,connected,2,`
  return `${start}${'.'.repeat(Math.max(0, length - start.length - 2))}}]`
}

/** A binary as `~p` prints it. */
export function binaryTerm(bytes: Buffer): string {
  return /^[\x20-\x7e]*$/.test(bytes.toString('latin1'))
    ? `<<"${bytes.toString('latin1')}">>`
    : `<<${[...bytes].join(',')}>>`
}
