// Control characters, line and paragraph separators, and what turns the direction of writing.
const TELLING = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu

/**
 * The text as one line that is nothing but text: what would begin another line, or tell a terminal what to do, is written as \xNN or
 * \u{NNNN}. Whatever is shown to people and has a name in it that somebody chose goes through here.
 */
export function onOneLine(text: string): string {
  return text.replace(TELLING, (character) => {
    const code = character.charCodeAt(0)
    const digits = code.toString(16)
    return code < 0x100 ? `\\x${digits.padStart(2, '0')}` : `\\u{${digits}}`
  })
}

/** The same of JSON, which stays JSON of the same value: between its strings there is nothing of that but line feeds. */
export function plainJson(json: string): string {
  return json.replace(TELLING, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
