import { compareVersions, type GetOptions, type ObjectVersion, type StoredObject } from '../contract.ts'
import { StoreCorrupt, StoreUnavailable } from '../errors.ts'
import { type Access, isOwnership, type Step, type Target } from './access.ts'
import type { RiakAnswer } from './client.ts'
import type { Deadline } from './deadline.ts'
import { verdictOn } from './failures.ts'
import { type Resolved, resolve, versionText } from './objects.ts'

/** Called with an answer of more than one sibling and what they come down to. */
export type OnSiblings = (
  target: Target,
  winner: StoredObject,
  vclock: Buffer,
  deadline: Deadline,
) => Promise<void>

/** Reads that are never older than what is known to be there. */
export class Reader {
  readonly #access: Access
  readonly #onSiblings: OnSiblings

  constructor(access: Access, onSiblings: OnSiblings) {
    this.#access = access
    this.#onSiblings = onSiblings
  }

  /**
   * The object under the key, `undefined` only where a quorum says that there is none and none is expected.
   * @throws StoreUnavailable where something newer is expected than what all steps show; StoreCorrupt; RiakError;
   * TransportError
   */
  async get(
    target: Target,
    { expect, everywhere = false }: Pick<GetOptions, 'expect' | 'everywhere'>,
    deadline: Deadline,
  ): Promise<StoredObject | undefined> {
    let best: Resolved = { kind: 'absent' }
    let failure: unknown
    for (const step of everywhere ? this.#ofAllOwners() : this.#steps(target)) {
      let answer: RiakAnswer
      try {
        answer = await this.#access.fetch(target, step, deadline)
      } catch (error) {
        if (deadline.signal.aborted || verdictOn(error)?.as === 'rejected') throw error
        // Without an expectation there is nothing that another step could add to a failure on all nodes.
        if (expect === undefined && best.kind !== 'corrupt') throw error
        failure = error
        continue
      }
      const found = resolve(answer.contents)
      if (isEnough(found, expect)) {
        if (found.kind === 'absent') return undefined
        const { contents, vclock } = answer
        if (contents.length > 1 && vclock !== undefined)
          await this.#onSiblings(target, found.object, vclock, deadline)
        return found.object
      }
      if (best.kind !== 'corrupt') best = found
    }
    throw notAsExpected(target, expect, best, failure)
  }

  /**
   * The steps in which an object is looked for. An empty replica does not count as an answer to the first. The last ones
   * ask for all replicas and count the empty ones, because only so does Riak wait for every replica and merge what it
   * finds: with notfound_ok=false the first empty one ends an r=all at once. And they ask every node, since nodes that
   * do not see each other answer from different replicas. Ownership has no such detours: a majority of owners tells the
   * truth, also that there is none, and nobody else does.
   */
  #steps(target: Target): Step[] {
    if (isOwnership(target)) {
      return [
        { r: 'quorum', notfoundOk: true },
        { r: 'all', notfoundOk: true },
      ]
    }
    const { r } = this.#access.quorums
    const quorum: Step[] = r === 'quorum' || r === 'all' ? [] : [{ r: 'quorum', notfoundOk: false }]
    const everywhere = this.#access.cluster.nodes.map((node): Step => ({ r: 'all', notfoundOk: true, node }))
    return [{ r, notfoundOk: false }, ...quorum, { r: 'all', notfoundOk: true }, ...everywhere]
  }

  /**
   * What all owners of the key say, none of them left out: a majority in which stand-ins count may have nothing of what was
   * acknowledged, or an older version, and without an expectation nobody would notice. From every node only if what one of
   * them picks among equals is damaged.
   */
  #ofAllOwners(): Step[] {
    const step: Step = { r: 'all', pr: 'all', notfoundOk: true }
    return [step, ...this.#access.cluster.nodes.map((node): Step => ({ ...step, node }))]
  }
}

/** Whether an answer is whole and as new as it has to be. */
function isEnough(
  found: Resolved,
  expect: ObjectVersion | undefined,
): found is Exclude<Resolved, { kind: 'corrupt' }> {
  if (found.kind === 'corrupt') return false
  if (expect === undefined) return true
  return found.kind === 'object' && compareVersions(found.object.version, expect) >= 0
}

function notAsExpected(
  { label }: Target,
  expect: ObjectVersion | undefined,
  best: Resolved,
  failure: unknown,
): StoreCorrupt | StoreUnavailable {
  if (best.kind === 'corrupt') return new StoreCorrupt(`${label}: ${best.reason}`)
  const wanted = expect === undefined ? 'any version' : `version ${versionText(expect)}`
  const shown = best.kind === 'object' ? `version ${versionText(best.object.version)}` : 'nothing'
  return new StoreUnavailable(
    `${label}: ${wanted} was stored, the nodes that answer show ${shown}; it comes back with the nodes that hold it`,
    { cause: failure },
  )
}
