import {
  ALL,
  Destination,
  type Finding,
  Restore,
  type RestoreOptions,
  type RestoreResult,
  type SourceTree,
} from '../../../src/migration/index.ts'

/** One run of a restore, as the command makes it. `path` is real. */
export async function restoreTo(
  tree: SourceTree,
  path: string,
  options: Partial<RestoreOptions> & { readonly namespace?: string } = {},
): Promise<RestoreResult & { findings: Finding[] }> {
  const findings: Finding[] = []
  const root = await tree.root()
  const isTaken = async (name: Buffer): Promise<boolean> => (await tree.look(root, name))?.file !== undefined
  const destination = await Destination.open(path, options.namespace ?? 'test', isTaken)
  try {
    const run = new Restore(tree, destination, {
      selection: ALL,
      acceptMissing: false,
      onProgress: () => undefined,
      onFinding: (finding) => findings.push(finding),
      signal: new AbortController().signal,
      ...options,
    })
    return { ...(await run.run()), findings }
  } finally {
    destination.close()
  }
}
