import { FsError } from '../base/errors.ts'
import { Staging } from './staging.ts'

/** The staging files of a state that is only looked at: whatever is decided about them, they stay as they are. */
export class KeptStaging extends Staging {
  override async write(): Promise<never> {
    throw readOnly()
  }

  override async rewrite(): Promise<never> {
    throw readOnly()
  }

  override create(): never {
    throw readOnly()
  }

  override extend(): never {
    throw readOnly()
  }

  override cut(): void {}

  override async cutByThread(): Promise<void> {}

  override punch(): void {}

  override abandon(): void {}

  override release(): void {}

  override recover(): void {}
}

const readOnly = (): FsError => new FsError('EROFS', 'this state is only read')
