/** The text with the password of every URL masked. */
export function withoutPasswords(text: string): string {
  return text.replace(/([a-z][a-z0-9+.-]*:\/\/[^\s/?#:@"]*):[^\s/?#@"]+@/gi, '$1:***@')
}
