/** What ferryfs itself keeps on a legacy volume: applications neither see nor reach it, and it is neither stored nor restored. */
const OWN_XATTRS = 'trusted.ferryfs.'
const OWN_FILES = '.ferryfs-owner'

/** @param name of an extended attribute, byte for byte as latin1 */
export function isOwnXattr(name: string): boolean {
  return name.startsWith(OWN_XATTRS)
}

/** @param name of an entry of the root, byte for byte as latin1 */
export function isOwnFile(name: string): boolean {
  return name === OWNER_FILE || name === OWNER_FILE_UNFINISHED
}

export const OWNER_XATTR = `${OWN_XATTRS}owner`
/** On a DEST in which a restore is about to end. */
export const RESTORE_XATTR = `${OWN_XATTRS}restore`
export const OWNER_FILE = OWN_FILES
export const OWNER_FILE_UNFINISHED = `${OWN_FILES}.new`
