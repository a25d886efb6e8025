import type {
  Carrier,
  ContentContext,
  LegacyFiles,
  Reader,
  Staging,
  Uploader,
  VolumeProof,
  Writer,
} from '../content/index.ts'

/** What the parts of the overlay share. */
export interface OverlayContext extends ContentContext {
  readonly legacyFiles: LegacyFiles
  readonly reader: Reader
  readonly writer: Writer
  readonly staging: Staging
  readonly uploader: Uploader
  readonly proof: VolumeProof
  readonly carrier: Carrier
  /** `store`: close and fsync wait until the store has the bytes. */
  readonly ack: 'local' | 'store'
  /** Another process served this mount before: handles may be open that this one has not seen opened. */
  readonly takesOver: boolean
}
