// @ts-check
// How many cells PM XY Grid is about to sample, from the nodes that are connected to it; of PM Find Strengths, its
// budget; of PM Reference Pictures, those without LoRAs and of each LoRA.
import { widgetOf } from './graph.js'

const WORDS = /[\s,;，；、]+/
// The lists of XY Sweep, as xy/value_list.py reads them.
const SEPARATORS = /[,;\r\n，；、]+/
const RANGE = /^(\S+?)\s*\.\.\s*(\S+?)\s*[x×*]\s*(\d+)$/
const WITH_SPACES = ['strength_rule', 'weights'] // parameters whose values are several words
const WHOLE = ['svd_rank', 'seed'] // and those whose ranges are rounded
const MAX_HOPS = 20 // through reroutes and bypassed nodes
const [MUTED, BYPASSED] = [2, 4]

/**
 * The sentence for the node: "9 cells x 20 steps", or "? x 3 cells, 20 steps each" if an axis can't be counted here.
 * Empty for a node that is being moved into a subgraph, and is in no graph.
 * @param {any} grid
 */
export function planText(grid) {
  if (!grid.graph) return ''
  const budget = widgetOf(grid, 'budget')
  if (budget) return withSteps(grid, linked(grid, 'budget') ? '? pictures' : `${budget.value} pictures`)
  if (widgetOf(grid, 'pictures')) return withSteps(grid, `${referenceCount(grid) ?? '?'} pictures`)
  const counts = ['X', 'Y'].map((name) => axisCount(grid, name))
  const known = Number(counts[0] ?? 1) * Number(counts[1] ?? 1)
  const unknown = counts.includes(null)
  // an axis with one value, or none, says nothing
  const factors = unknown ? counts.filter((count) => count !== 1).map((count) => count ?? '?') : [known]
  const what = `${factors.join(' x ')} cell${known === 1 && !unknown ? '' : 's'}`
  const limit = Number(widgetOf(grid, 'max_cells')?.value ?? Infinity)
  if (known > limit) return `${what}: more than max_cells (${limit}) allows`
  return withSteps(grid, what)
}

/**
 * The number of reference pictures; null if it can't be told, as of a stack's LoRAs.
 * @param {any} node
 */
function referenceCount(node) {
  if (linked(node, 'pictures') || linked(node, 'lora_stack')) return null
  const loras = node.inputs.filter((/** @type {any} */ { name }) => /^lora\d+$/.test(name) && linked(node, name)).length
  return loras ? (1 + loras) * widgetOf(node, 'pictures').value : null
}

/**
 * @param {any} grid
 * @param {string} what
 */
function withSteps(grid, what) {
  const steps = widgetOf(grid, 'steps')
  if (!steps || linked(grid, 'steps') || ['X', 'Y'].some((name) => mayChangeSteps(grid, name))) return what
  return what.includes('?') ? `${what}, ${steps.value} steps each` : `${what} x ${steps.value} steps`
}

/**
 * @param {any} grid
 * @param {string} name of an axis
 */
function mayChangeSteps(grid, name) {
  if (!linked(grid, name)) return false
  const node = originOf(grid, name)?.node
  return !node || node.type === 'XY Input: Steps' || widgetOf(node, 'axis')?.value === 'steps' || linked(node, 'axis')
}

/**
 * The number of values on an axis; 1 if nothing is connected, null if that can't be told.
 * @param {any} grid
 * @param {string} name
 * @returns {number | null}
 */
function axisCount(grid, name) {
  if (!linked(grid, name)) return 1
  const origin = originOf(grid, name)
  return origin && !origin.node.inputs?.some((/** @type {any} */ input) => input.widget && input.link != null)
    ? countOf(origin.node, origin.slot)
    : null
}

/**
 * The number of values that an XY node gives at an output.
 * @param {any} node
 * @param {number} output
 * @returns {number | null}
 */
export function countOf(node, output) {
  const value = (/** @type {string} */ name) => widgetOf(node, name)?.value
  switch (node.type) {
    case 'XY: PM LoRA Strengths':
      return listed(value('values')) || range(value('steps'), value('min_strength'), value('max_strength'))
    case 'XY: PM LoRA Modes':
      if (output === 0) return listed(value('modes')) || null
      return listed(value('values')) || range(value('density_steps'), value('min_density'), value('max_density'))
    case 'XY: PM LoRA SVD Rank': {
      const [low, high] = [Number(value('min_rank')), Number(value('max_rank'))]
      return listed(value('values')) || Math.min(range(value('rank_steps'), low, high), Math.max(1, high - low + 1))
    }
    case 'XY: PM Sampling':
      return /prompt$/.test(value('axis')) ? lines(value('values')) : listed(value('values')) || null
    case 'XY: PM LoRA Sweep': {
      const axis = output === 0 ? 'x' : 'y'
      const parameter = value(`${axis}_parameter`)
      return parameter === 'none' ? 1 : valuesOf(value(`${axis}_values`), WITH_SPACES.includes(parameter), WHOLE.includes(parameter))
    }
    case 'XY: PM LoRA Files': {
      const files = String(value('files') ?? '').trim()
      if (!files || /[*?]/.test(files)) return null // only the server knows the folder
      const count = new Set(files.split(/\r?\n/).map((line) => line.trim()).filter(Boolean)).size
      return Math.min(count, Number(value('limit')) || Infinity)
    }
    // of efficiency-nodes-comfyui
    case 'XY Input: Seeds++ Batch':
    case 'XY Input: Steps':
    case 'XY Input: CFG Scale':
    case 'XY Input: Denoise':
      return Number(value('batch_count')) || null
    default:
      return null
  }
}

/**
 * A number in whatever spelling, or a name.
 * @param {string} word
 */
const valueOf = (word) => (Number.isNaN(Number(word)) ? word : Number(word))

/**
 * Distinct words of a list; 0 for an empty one.
 * @param {unknown} text
 */
const listed = (text) => new Set(String(text ?? '').toLowerCase().split(WORDS).filter(Boolean).map(valueOf)).size

/**
 * Distinct values such as "0, 0.5, 1", "0..1 x 5" or both; null if there are none.
 * @param {unknown} text
 * @param {boolean} spaces whether a value may have spaces
 * @param {boolean} whole whether the values are whole numbers
 */
function valuesOf(text, spaces, whole) {
  const found = new Set()
  for (const part of String(text ?? '').toLowerCase().split(SEPARATORS).map((one) => one.trim()).filter(Boolean)) {
    const [, low, high, steps] = RANGE.exec(part) ?? []
    if (steps) {
      const [first, last, count] = [low, high, steps].map(Number)
      for (let n = 0; n < Math.min(count, 10_000); n++) {
        const value = count > 1 ? first + ((last - first) * n) / (count - 1) : first
        found.add(String(whole ? Math.round(value) : Number(value.toPrecision(6))))
      }
    } else for (const word of spaces ? [part] : part.split(/\s+/)) found.add(String(valueOf(word)))
  }
  return found.size || null
}

/**
 * One a line, or separated by commas if there is only one line.
 * @param {unknown} text
 */
function lines(text) {
  const found = String(text ?? '').trim().split('\n')
  return new Set((found.length > 1 ? found : found[0].split(',')).map((part) => part.trim()).filter(Boolean)).size || null
}

/**
 * @param {any} steps
 * @param {any} low
 * @param {any} high
 */
const range = (steps, low, high) => (Number(low) === Number(high) ? 1 : Number(steps))

/**
 * @param {any} node
 * @param {string} name
 */
const slotOf = (node, name) => (node.inputs ?? []).findIndex((/** @type {any} */ input) => input.name === name)

/**
 * Whether an input gets something in a run: links from muted nodes count as none.
 * @param {any} node
 * @param {string} name
 */
const linked = (node, name) => originOf(node, name) !== undefined

/**
 * The node that feeds an input, through reroutes and bypassed nodes, and the index of its output; undefined if none does,
 * null if it is outside this graph.
 * @param {any} node
 * @param {string} name
 * @returns {{node: any, slot: number} | null | undefined}
 */
function originOf(node, name) {
  let slot = slotOf(node, name)
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    if (slot < 0 || !node.isInputConnected(slot)) return undefined
    // a node that is being moved into a subgraph is in no graph
    const link = node.graph && node.getInputLink?.(slot)
    const origin = link && node.graph.getNodeById(link.origin_id)
    if (!origin) return null
    if (origin.mode === MUTED) return undefined
    if (origin.type === 'Reroute') slot = 0
    else if (origin.mode === BYPASSED) slot = passedOn(origin, link.origin_slot)
    else return { node: origin, slot: link.origin_slot }
    node = origin
  }
  return null
}

/**
 * The input that a bypassed node hands on at an output: the one beside it or the first of its type; -1 if there is none.
 * @param {any} node
 * @param {number} slot of the output
 */
function passedOn(node, slot) {
  const type = node.outputs?.[slot]?.type
  const inputs = node.inputs ?? []
  return inputs[slot]?.type === type ? slot : inputs.findIndex((/** @type {any} */ input) => input.type === type)
}
