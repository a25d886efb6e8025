import type { Socket } from 'node:net'
import { within } from '../base/turns.ts'
import { SourceError, type SourceTree } from '../migration/index.ts'
import { SIGN_OF_LIFE_MS } from './control-protocol.ts'
import { FrameParser, sendFrame } from './tree-frames.ts'
import {
  receivedReference,
  receivedState,
  sentChunks,
  sentEntry,
  sentFile,
  type TreeRequest,
  treeRequestSchema,
} from './tree-messages.ts'

// Requests of one connection under way at once; a client that asks for more waits, and so do their answers' bytes (P6).
const AT_ONCE = 64

interface Answer {
  readonly value: unknown
  readonly body?: Buffer
}

/** Answers what a restoring process asks of the tree, over a connection that has asked for it, until that ends. */
export function serveTree(socket: Socket, tree: SourceTree): void {
  const parser = new FrameParser()
  const gone = new AbortController()
  let underWay = 0
  const pulse = setInterval(() => sendFrame(socket, { alive: true }), SIGN_OF_LIFE_MS)
  socket.once('close', () => {
    clearInterval(pulse)
    gone.abort(new Error('the client has gone'))
  })
  const take = (bytes: Buffer): void => {
    try {
      for (const { header, body } of parser.push(bytes)) {
        const request = treeRequestSchema.parse(header)
        underWay += 1
        void within(`a restore's request: ${request.op}`, () => answer(tree, request, body, gone.signal))
          .then(
            ({ value, body: bytesOf }) => sendFrame(socket, { id: request.id, value }, bytesOf),
            (error: unknown) => {
              const { kind, message } = SourceError.from(error)
              sendFrame(socket, { id: request.id, error: { kind, message } })
            },
          )
          .finally(() => {
            underWay -= 1
            if (underWay < AT_ONCE && socket.isPaused()) socket.resume()
          })
      }
      if (underWay >= AT_ONCE) socket.pause()
    } catch {
      // Whoever speaks something else than this is not served.
      socket.destroy()
    }
  }
  socket.on('data', take)
  socket.resume()
}

async function answer(
  tree: SourceTree,
  request: TreeRequest,
  body: Buffer,
  signal: AbortSignal,
): Promise<Answer> {
  switch (request.op) {
    case 'totals':
      return { value: await tree.totals() }
    case 'root':
      return { value: sentFile(await tree.root()) }
    case 'list': {
      const { entries, next } = await tree.list(receivedReference(request.directory), request.from)
      return { value: { entries: entries.map(sentEntry), next } }
    }
    case 'look': {
      const entry = await tree.look(receivedReference(request.directory), body)
      return { value: entry ? sentEntry(entry) : null }
    }
    case 'chunks': {
      const { chunks, next } = await tree.chunks(receivedState(request.file), request.from)
      return { value: { chunks: sentChunks(chunks), next } }
    }
    case 'read':
      return { value: null, body: await tree.read(receivedState(request.file), request.index, signal) }
    case 'stamp':
      return { value: (await tree.stamp(receivedReference(request.file))) ?? null }
    case 'ping':
      await tree.ping()
      return { value: null }
  }
}
