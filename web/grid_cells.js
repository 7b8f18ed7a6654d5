// @ts-check
// What PM XY Grid's node says about its cells: where they are in the picture, what they are, and the recipe of one.

/**
 * The state of a grid, as xy/live_grid.py sends it. `cells` has their settings, row by row, once the run is finished.
 * @typedef {{size: [number, number], columns: string[], rows: string[], done: string[], now: string | null,
 *   seconds_left: number | null, running?: boolean, layout?: Record<string, number>, picture?: Record<string, string>,
 *   cells?: any[], total?: number, labels?: string[], memory?: string}} State
 * PM Find Strengths has `labels` for its cells, row by row, and a `total` that doesn't fill the last row.
 */

const ENDING = /\.(safetensors|sft|pt|pth|bin|ckpt)$/i
const NO_LABELS = { left: 0, top: 0, gap_x: 0.01, gap_y: 0.01 }

/**
 * The cells of a grid, row by row.
 * @param {State} state
 * @returns {{place: string, column: number, row: number, label: string}[]}
 */
export function cellsOf({ size: [columns, rows], columns: above, rows: beside, labels }) {
  const cells = []
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const label = labels?.[row * columns + column] ?? [above[column], beside[row]].filter(Boolean).join(' x ')
      cells.push({ place: `${column + 1},${row + 1}`, column, row, label })
    }
  }
  return cells
}

/**
 * The number of cells to sample.
 * @param {State} state
 */
export const totalOf = ({ size, total }) => total ?? size[0] * size[1]

/**
 * The layout of a state's picture, in shares of its size. Without a picture the cells fill the box.
 * @param {State} state
 * @returns {Record<string, number>}
 */
export function layoutOf({ layout, size: [columns, rows] }) {
  if (layout) return layout
  const { gap_x: x, gap_y: y } = NO_LABELS
  const [width, height] = [(1 + x) / columns - x, (1 + y) / rows - y]
  return { ...NO_LABELS, cell_width: width, cell_height: height, aspect: columns / rows }
}

/**
 * The box of a cell, in percent of the picture.
 * @param {Record<string, number>} layout
 * @param {number} column
 * @param {number} row
 */
export function boxOf({ left, top, cell_width, cell_height, gap_x, gap_y }, column, row) {
  const percent = (/** @type {number} */ share) => `${(100 * share).toFixed(3)}%`
  return {
    left: percent(left + column * (cell_width + gap_x)),
    top: percent(top + row * (cell_height + gap_y)),
    width: percent(cell_width),
    height: percent(cell_height)
  }
}

/**
 * A cell in a text such as "2,1" or " 2, 1 "; the text itself if it names none.
 * @param {string} text
 */
export const placeOf = (text) => String(text ?? '').trim().replace(/\s*[,;x ]\s*/, ',')

/**
 * The state of the run in a sentence.
 * @param {State} state
 * @param {boolean} running
 */
export function statusOf(state, running) {
  const total = totalOf(state)
  const done = state.done.length
  if (!running) {
    if (done >= total) return ''
    return `Stopped after ${done} of ${total} cells; the next run goes on.`
  }
  const current = cellsOf(state).find(({ place }) => place === state.now)
  const parts = [`cell ${Math.min(done + 1, total)}/${total}`, current?.label ? `: ${current.label}` : '']
  if (state.seconds_left) parts.push(`, about ${durationOf(state.seconds_left)} left`)
  return parts.join('')
}

/**
 * Such as "40 s", "12 min", "3 h 20 min".
 * @param {number} seconds
 */
export function durationOf(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`
  const minutes = Math.round(seconds / 60)
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/**
 * A cell's settings as lines of text.
 * @param {any} cell one of a state's cells
 */
export function textOf({ merges, sampling, score }) {
  const lines = score === undefined ? [] : [`score: ${score.toFixed(3)}`]
  for (const { loras, ...settings } of merges) {
    for (const lora of loras) lines.push(`${nameOf(lora)}: ${strengthText(lora)}${readText(lora)}`)
    const shown = Object.entries(settings).filter(([name]) => name !== 'from_model_weights')
    lines.push(...shown.map(([name, value]) => `${name}: ${plain(value)}`))
  }
  if (!merges.length) lines.push(...Object.entries(sampling).map(([name, value]) => `${name}: ${plain(value)}`))
  else lines.push(`sampling seed: ${sampling.seed}, steps: ${sampling.steps}, cfg: ${sampling.cfg}`)
  return lines.join('\n')
}

/** @param {any} lora */
const nameOf = (lora) => lora.file ?? lora.name ?? 'a LoRA without a name'

/** @param {any} lora */
function strengthText(lora) {
  const { model, clip } = strengthsOf(lora)
  return model === clip ? `${model}` : `${model} (text encoder ${clip})`
}

/**
 * What else its loader has.
 * @param {any} lora
 */
function readText({ block_weights: weights = [], alpha_from: alpha }) {
  const times = weights.map((/** @type {string} */ text) => `, block weights ${text}`).join('')
  return alpha === 'tensors' ? `${times}, alpha from tensors` : times
}

/** @param {any} lora */
function strengthsOf(lora) {
  const model = lora.strength_model ?? lora.strength ?? 1
  return { model, clip: lora.strength_clip ?? model }
}

/**
 * @param {any} value
 * @returns {string}
 */
function plain(value) {
  if (value === null || typeof value !== 'object') return String(value)
  if (Array.isArray(value)) return value.map(plain).join(', ')
  return Object.entries(value).map(([name, one]) => `${name} ${plain(one)}`).join(', ')
}

/**
 * The recipe of a cell's LoRA, in the form of merge/provenance/recipe.py; null for a cell without LoRAs.
 * @param {any} cell
 */
export function recipeOfCell({ merges }) {
  const steps = merges.map(stepOf)
  if (steps.length < 2) return steps[0] ?? null
  const inputs = steps.map((/** @type {any} */ made) => ({ name: 'merge', strength_model: 1, strength_clip: 1, made }))
  return { operation: 'merge', mode: 'concat', inputs }
}

/**
 * A merge, or a LoRA that is applied as it is.
 * @param {any} merge
 */
function stepOf({ loras, ...settings }) {
  const inputs = loras.map((/** @type {any} */ lora) => {
    const { strength: _, ...entry } = lora
    const { model, clip } = strengthsOf(lora)
    return { ...entry, name: lora.name ?? lora.file, strength_model: model, strength_clip: clip }
  })
  if (!settings.mode) return { operation: 'load', inputs }
  return { operation: settings.mode.endsWith('_svd') ? 'merge_svd' : 'merge', ...settings, inputs }
}

/**
 * A file name for the LoRA of a cell: the names of its LoRAs.
 * @param {any} cell
 */
export function fileNameOf({ merges }) {
  const names = merges.flatMap((/** @type {any} */ { loras }) => loras.map(nameOf))
  // a merge is named after its own LoRAs: "styles/ink + film"
  const stems = names.flatMap((/** @type {string} */ name) => name.split(' + ')).map((/** @type {string} */ name) => {
    const last = name.split(/[\\/]/).at(-1) ?? name
    return last.replace(ENDING, '')
  })
  return [...new Set(stems)].slice(0, 4).join('_') || 'merged'
}
