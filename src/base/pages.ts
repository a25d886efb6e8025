/** What is iterated over, so many at a time. */
export function* pagesOf<T>(all: Iterable<T>, size: number): Generator<T[]> {
  let page: T[] = []
  for (const one of all) {
    page.push(one)
    if (page.length < size) continue
    yield page
    page = []
  }
  if (page.length > 0) yield page
}
