// @ts-check
// The rows of PM Power Loader as data: text to rows and back, moving, searching, and what is said about them.
// Nothing here touches the page. The server checks the same text (nodes/power_rows.py).

/** @typedef {{lora: string, on: boolean, strength: number, strength_clip: number | null, lbw: string}} Row */
/** @typedef {{family?: string | null, group?: string | null, summary?: string, error?: string}} Facts */

const MOST = 20

/**
 * The rows in the widget's text; null if it is no list of rows, which is then shown as text.
 * @param {string} text
 * @returns {Row[] | null}
 */
export function rowsOf(text) {
  if (!String(text ?? '').trim()) return []
  let found
  try {
    found = JSON.parse(text)
  } catch {
    return null
  }
  return Array.isArray(found) && found.every(isRow) ? found.map((row) => ({ ...newRow(row.lora), ...row })) : null
}

/** @param {any} row */
function isRow(row) {
  return (
    row !== null &&
    typeof row === 'object' &&
    Object.keys(row).every((key) => key in newRow('')) &&
    typeof row.lora === 'string' &&
    ['boolean', 'undefined'].includes(typeof row.on) &&
    ['number', 'undefined'].includes(typeof row.strength) &&
    (row.strength_clip == null || typeof row.strength_clip === 'number') &&
    ['string', 'undefined'].includes(typeof row.lbw)
  )
}

/** @param {Row[]} rows */
export const textOf = (rows) => JSON.stringify(rows)

/**
 * @param {string} lora
 * @returns {Row}
 */
export const newRow = (lora) => ({ lora, on: true, strength: 1, strength_clip: null, lbw: '' })

/**
 * The rows with one moved by `step` places; the same rows if it is at the end already.
 * @param {Row[]} rows
 * @param {number} index
 * @param {number} step
 */
export function moved(rows, index, step) {
  const target = index + step
  if (target < 0 || target >= rows.length) return rows
  const result = [...rows]
  result.splice(target, 0, ...result.splice(index, 1))
  return result
}

/**
 * A strength that a user typed, within its limits; null for text that is no number.
 * @param {string} text
 */
export function strengthOf(text) {
  const value = text.trim() === '' ? NaN : Number(text.replace(',', '.'))
  return Number.isFinite(value) ? Math.min(MOST, Math.max(-MOST, value)) : null
}

/**
 * A file's name without folder and extension.
 * @param {string} file
 */
export const stemOf = (file) => file.replace(/^.*[\\/]/, '').replace(/\.(safetensors|sft|pt|pth|bin|ckpt)$/i, '')

/**
 * A file's folder, "" for the loras folder itself.
 * @param {string} file
 */
export const folderOf = (file) => file.replace(/\\/g, '/').replace(/[^/]*$/, '').replace(/\/$/, '')

/**
 * The files with all words of the query in their name, the best hits first: names that begin with the query, then
 * names with a word that does, then the rest.
 * @param {string[]} files
 * @param {string} query
 * @param {Record<string, Facts>} [facts] by file
 * @param {string} [family] only files of this model; "" for all
 */
export function search(files, query, facts = {}, family = '') {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean)
  const rank = (/** @type {string} */ file) => {
    const stem = stemOf(file).toLowerCase()
    if (!words.length || stem.startsWith(words[0])) return 0
    return stem.split(/[^a-z0-9]+/).some((part) => part.startsWith(words[0])) ? 1 : 2
  }
  return files
    .filter((file) => words.every((word) => file.toLowerCase().includes(word)))
    .filter((file) => !family || facts[file]?.family === family)
    .map((file, place) => ({ file, place, rank: rank(file) }))
    .sort((a, b) => a.rank - b.rank || a.place - b.place)
    .map(({ file }) => file)
}

/**
 * The models that the files are for, sorted.
 * @param {Record<string, Facts>} facts
 */
export const familiesOf = (facts) =>
  [...new Set(Object.values(facts).flatMap(({ family }) => family || []))].sort((a, b) => a.localeCompare(b))

/**
 * One sentence if rows that are on are for models whose LoRAs don't go together; "" if they do.
 * @param {Row[]} rows
 * @param {Record<string, Facts>} facts
 */
export function familyWarning(rows, facts) {
  /** @type {Map<string, {family: string, names: string[]}>} */
  const groups = new Map()
  for (const { lora, on } of rows) {
    const { family, group } = facts[lora] ?? {}
    if (!on || !family) continue
    const key = group ?? family
    if (!groups.has(key)) groups.set(key, { family, names: [] })
    groups.get(key)?.names.push(stemOf(lora))
  }
  if (groups.size < 2) return ''
  const parts = [...groups.values()].map(({ family, names }) => {
    return `${names.length > 1 ? `${names[0]} and ${names.length - 1} more are` : `${names[0]} is`} for ${family}`
  })
  return `${parts.join(', ')}: LoRAs for different models can't be merged.`
}

/**
 * The line below a row's name: what the file is, and the settings that its closed panel hides.
 * @param {Row} row
 * @param {Facts | undefined} facts
 */
export function aboutRow(row, facts) {
  const parts = [facts?.error ?? facts?.summary ?? 'looking into the file…']
  if (folderOf(row.lora)) parts.push(`in ${folderOf(row.lora)}`)
  if (row.strength_clip !== null && row.strength_clip !== row.strength) parts.push(`text encoder ${row.strength_clip}`)
  if (row.lbw) parts.push(`blocks ${row.lbw.length > 24 ? `${row.lbw.slice(0, 24)}…` : row.lbw}`)
  return parts.join(' · ')
}

// Pixels; power_loader.css has the same.
const ROW = 50
const MOST_ROWS = 12
const LINE = 17
const PANEL = { fields: 52, button: 28, picture: 114, most: 196, characters: 52 }

/**
 * The height of the open panel of a row.
 * @param {any} facts
 */
export function panelHeight(facts) {
  const texts = [facts?.base_model ? `Base model: ${facts.base_model}` : '', (facts?.trigger_words ?? []).join(', ')]
  const lines = texts.reduce((sum, text) => sum + Math.ceil(text.length / PANEL.characters), 0)
  const height = PANEL.fields + PANEL.button + lines * (LINE + 2) + (facts?.has_preview ? PANEL.picture : 0)
  return Math.min(PANEL.most, height)
}

/**
 * The least height of the widget: twelve rows, more scroll; the open panel and the open search in full.
 * @param {number} rows
 * @param {number} panel its height, 0 if none is open
 * @param {boolean} searching
 * @param {boolean} warning
 */
export function heightFor(rows, panel, searching, warning) {
  return 46 + Math.min(rows, MOST_ROWS) * ROW + panel + (searching ? 232 : 0) + (warning ? 38 : 0)
}
