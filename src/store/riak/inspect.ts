import { randomUUID } from 'node:crypto'
import { reasonOf, UsageError } from '../../base/errors.ts'
import type { Log } from '../../observe/log.ts'
import { bucketOf, createTypeCommands, DATATYPE, hasDatatype, unfit } from './buckets.ts'
import * as riak from './client.ts'
import { RiakCluster } from './cluster.ts'
import { Deadline } from './deadline.ts'
import { RiakError, verdictOn } from './failures.ts'
import { probe, type RiakNode, TRIAL_BUCKET } from './node.ts'
import { parseRiakUrl, type RiakOptions } from './url.ts'

/** One thing looked at: whether it is fit, what was seen, and what to do where something is to be done. */
export interface Finding {
  readonly ok: boolean
  readonly what: string
  /** Lines to type or to read; also with `ok` where it could be better. */
  readonly advice?: readonly string[]
}

/** Bucket types came with release 2.0, and with them dotted version vectors. */
const OLDEST_RELEASE = 2
const NEEDED = 'Riak KV 2.0 or later'

/** Below three replicas on three nodes a quorum does not outlive the loss of one. */
const FEWEST_REPLICAS = 3

/**
 * Looks whether a Riak cluster is fit for ferryfs: every node of the URL, the bucket type, and one object written, read
 * and deleted. Fails for nothing but a URL that makes no sense.
 * @throws UsageError
 */
export async function inspectRiak(url: string, log: Pick<Log, 'info' | 'warn'>): Promise<Finding[]> {
  const options = parseRiakUrl(url)
  const cluster = new RiakCluster(options, log)
  try {
    const nodes = await Promise.all(cluster.nodes.map((node) => inspectNode(node, options)))
    if (!nodes.some(({ ok }) => ok)) return nodes
    const type = await inspectType(cluster, options)
    const usable = type.every(({ ok }) => ok)
    return [
      ...nodes,
      ...enoughNodes(cluster.nodes.length),
      ...type,
      ...(usable ? [await tryObject(cluster, options), await tryListing(cluster, options)] : []),
    ]
  } finally {
    cluster.close()
  }
}

function finding(ok: boolean, what: string, advice: readonly string[] = []): Finding {
  return advice.length === 0 ? { ok, what } : { ok, what, advice }
}

async function inspectNode(node: RiakNode, { type, timeoutMs }: RiakOptions): Promise<Finding> {
  using deadline = new Deadline(timeoutMs, [])
  try {
    const { node: name, version } = await node.run(riak.serverInfo(), deadline.signal)
    const what = `${node.name} answers: ${name}, release ${version}`
    // A build from a repository may put a name before the number.
    const release = /\d+/.exec(version)?.[0]
    const idle = await notServing(node, type, deadline)
    if (idle !== undefined)
      return finding(false, `${node.name} answers, but does not serve: ${idle}`, [
        'A node that has just started needs some seconds',
      ])
    if (release === undefined) return finding(true, what, [`Make sure that this is ${NEEDED}`])
    return Number(release) >= OLDEST_RELEASE
      ? finding(true, what)
      : finding(false, what, [`ferryfs needs ${NEEDED}`])
  } catch (error) {
    const advice = [
      'Is Riak running there, and does listener.protobuf.internal in riak.conf name this address and port?',
    ]
    // An answer that refuses brings its own advice along.
    return finding(false, reasonOf(error), error instanceof RiakError ? [] : advice)
  }
}

/** Why a node that answers has no vnode to read from. What else it refuses is the matter of other findings. */
async function notServing(node: RiakNode, type: string, deadline: Deadline): Promise<string | undefined> {
  try {
    await node.run(probe(type), deadline.signal)
  } catch (error) {
    if (verdictOn(error)?.nodeIsIll) return reasonOf(error)
  }
  return undefined
}

function enoughNodes(nodes: number): Finding[] {
  if (nodes > 1) return []
  const advice = [
    'Name all nodes of the cluster in the URL, riak://host1:8087,host2:8087/, or one lost node stops everything',
  ]
  return [finding(true, 'the URL names one node', advice)]
}

async function inspectType(
  cluster: RiakCluster,
  { type, r, w, dw, timeoutMs }: RiakOptions,
): Promise<Finding[]> {
  using deadline = new Deadline(timeoutMs, [])
  let props: riak.BucketProps
  try {
    props = await cluster.read(
      () => (type === 'default' ? trialProps(type) : riak.bucketTypeProps(type)),
      deadline,
    )
  } catch (error) {
    const isMissing =
      error instanceof RiakError && /Invalid bucket type|No bucket-type|no_type/.test(error.message)
    if (!isMissing)
      return [finding(false, `the properties of bucket type ${type} cannot be read: ${reasonOf(error)}`)]
    return [finding(false, `bucket type ${type} is not there, or not active`, createTypeCommands(type))]
  }
  // Untyped buckets are told to keep siblings when a store is opened.
  const judged = type === 'default' ? { ...props, allowMult: true, lastWriteWins: false } : props
  const reasons = unfit(judged, { r, w, dw })
  if (type !== 'default' && reasons.length === 0 && (await hasDatatype(cluster, trialBucket(type), deadline)))
    reasons.push(DATATYPE)
  const fit =
    reasons.length === 0
      ? finding(true, `bucket type ${type} is fit: allow_mult, n_val ${props.nVal}${backendOf(props)}`)
      : finding(false, `bucket type ${type} is not fit: ${reasons.join('; ')}`, repair(type))
  return [fit, ...couldBeBetter(type, props)]
}

const trialBucket = (type: string): riak.BucketName => ({ type, bucket: TRIAL_BUCKET })

function trialProps(type: string): riak.RiakCommand<riak.BucketProps> {
  return riak.bucketProps(trialBucket(type))
}

function backendOf({ backend }: riak.BucketProps): string {
  return backend === undefined ? '' : `, backend ${backend}`
}

/** An active type can be changed, but for its datatype, and whether it is consistent or write_once. */
function repair(type: string): string[] {
  const [create = '', activate = ''] = createTypeCommands(`${type}-ferryfs`)
  return [
    `riak admin bucket-type update ${type} '{"props":{"allow_mult":true,"last_write_wins":false}}'`,
    'or make another and name it with type= in the URL:',
    create,
    activate,
  ]
}

function couldBeBetter(type: string, props: riak.BucketProps): Finding[] {
  const findings: Finding[] = []
  if (props.nVal < FEWEST_REPLICAS) {
    const advice = [
      `riak admin bucket-type update ${type} '{"props":{"n_val":3}}'`,
      'before anything is stored',
    ]
    findings.push(finding(true, `n_val is ${props.nVal}: the loss of one node can lose data`, advice))
  }
  if (/memory/i.test(props.backend ?? '')) {
    findings.push(
      finding(false, `backend ${props.backend} keeps objects in memory only`, [
        'Choose leveldb, bitcask or leveled',
      ]),
    )
  }
  if (props.precommit > 0) {
    const advice = ['Make sure that they neither refuse nor change what ferryfs stores']
    findings.push(finding(true, `${props.precommit} pre-commit hook(s) are set`, advice))
  }
  return findings
}

/** Writes, reads and deletes one object with the quorums of the URL, and looks whether siblings are kept. */
async function tryObject(cluster: RiakCluster, options: RiakOptions): Promise<Finding> {
  const { type, r, w, dw, timeoutMs: limit } = options
  using deadline = new Deadline(limit, [])
  const name = { ...bucketOf(type, TRIAL_BUCKET, 'files'), key: randomUUID() }
  const value = Buffer.from(`ferryfs doctor was here: ${name.key}`)
  const content = { value, contentType: 'text/plain', usermeta: [] }
  const start = performance.now()
  try {
    const write = (timeoutMs: number) => riak.store(name, content, undefined, { w, dw, timeoutMs })
    const first = await cluster.write(write, deadline)
    const read = (timeoutMs: number) => riak.fetch(name, { r, notfoundOk: false, head: false, timeoutMs })
    const { contents } = await cluster.read(read, deadline)
    const came = contents[0]?.value.equals(value) === true
    // Under no context once more: a second sibling. The bucket of the trial is not told to keep them if it is untyped.
    const second = came && type !== 'default' ? await cluster.write(write, deadline) : undefined
    const vclock = second?.vclock ?? first.vclock
    if (vclock !== undefined)
      await cluster.write((timeoutMs) => riak.remove(name, vclock, { w, dw, timeoutMs }), deadline)
    if (!came)
      return finding(false, 'an object that was written did not come back', [
        'Look at `riak admin member-status` and the logs',
      ])
    if (second !== undefined && second.contents.length < 2)
      return finding(false, 'of two writes that do not know of each other one was dropped', repair(type))
    const milliseconds = Math.round(performance.now() - start)
    const quorums = `r=${r}, w=${w}, dw=${dw}`
    return finding(true, `an object was written, read and deleted with ${quorums} in ${milliseconds} ms`)
  } catch (error) {
    if (error instanceof UsageError) throw error
    const reason = reasonOf(error)
    const advice = ['Look at `riak admin member-status`, `riak admin transfers` and the logs of the nodes']
    const isWriteOnce = reason.includes(riak.NO_HEAD)
    return finding(
      false,
      `an object cannot be written and read: ${reason}`,
      isWriteOnce ? repair(type) : advice,
    )
  }
}

/** Whether keys can be listed, which only `ferryfs sweep` asks for. Broken off after the first answer. */
async function tryListing(cluster: RiakCluster, { type, timeoutMs }: RiakOptions): Promise<Finding> {
  try {
    for await (const _ of cluster.listKeys(trialBucket(type), timeoutMs, [])) break
    return finding(true, 'keys can be listed, as `ferryfs sweep` does')
  } catch (error) {
    const advice = ['`ferryfs sweep` needs it, nothing else does']
    return finding(true, `keys cannot be listed: ${reasonOf(error)}`, advice)
  }
}
