import type { KeySpace } from './contract.ts'
import { StoreRejected } from './errors.ts'
import { StoreWrapper } from './wrapper.ts'

/** A store that nothing is written to, whoever tries. */
export class ReadOnlyStore extends StoreWrapper {
  async put(space: KeySpace, key: string): Promise<void> {
    throw new StoreRejected(`${space} ${key}: the store is only read`)
  }

  async delete(space: KeySpace, key: string): Promise<void> {
    throw new StoreRejected(`${space} ${key}: the store is only read`)
  }
}
