// @ts-check
// Shows the text that a run returns in a box on the node. The text is saved with the workflow, in the node's
// properties: a widget's value is saved by position and would take the place of a widget that a later version adds. It
// is no part of the prompt.
import { app } from '../../scripts/app.js'
import { widgetOf } from './graph.js'
import { resultComes } from './undo_history.js'

const NAME = 'result'
const FAILED = 'Error: '
const PLACEHOLDER = 'The result of the run appears here.'
const MIN_HEIGHT = 48
const MAX_HEIGHT = 220
const MAX_WIDTH = 640
const MARGIN = 50 // of the text, left and right together
const LINE_HEIGHT = 15
const CHARACTER_WIDTH = 6.5
const WIDEST_CHARACTER = 7 // on average over a path
const SHOW_TEXT = [
  'PM LoRA Merger',
  'PM LoRA SVD Merger',
  'PM LoRA Resizer',
  'PM LoRA Save',
  'PM LoRA Apply',
  'PM LoRA Bake',
  'PM LoRA Extract',
  'PM LoRA References',
  'PM LoRA Find Strengths'
]

/**
 * Add the text box to a new node that shows results. Not only when there is a result: Nodes 2.0 in front end 1.32
 * doesn't draw widgets that are added after the first link.
 * @param {any} node
 */
export function makeRoomForText(node) {
  if (!SHOW_TEXT.includes(node.constructor.nodeData.name)) return
  const options = { multiline: true, placeholder: PLACEHOLDER }
  const { widget } = app.widgets.STRING(node, NAME, ['STRING', options], app)
  widget.serialize = false
  Object.assign(widget.options, { serialize: false, read_only: true, getMinHeight: () => heightOf(widget.value, node.size[0]) })
  const element = widget.inputEl ?? widget.element
  if (element) element.readOnly = true
  growTo(node, 0)
}

/**
 * The height of a text in a box as wide as the node, so that no warning is hidden below the edge of the box.
 * @param {string} text
 * @param {number} width of the node
 */
export function heightOf(text, width) {
  const characters = Math.max(10, (width - MARGIN) / CHARACTER_WIDTH)
  const lines = (text ?? '').split('\n').reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / characters)), 0)
  return Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, 14 + lines * LINE_HEIGHT))
}

/**
 * Show lines in the node's box, and keep them for when the workflow is opened again.
 * @param {any} node
 * @param {string[]} lines
 * @param {string} [whole] a part of them that must not be broken into two lines, such as a path
 */
export function showText(node, lines, whole = '') {
  if (!boxOf(node)) return
  const text = lines.join('\n')
  resultComes(node, NAME)
  node.properties ??= {}
  node.properties[NAME] = text
  write(node, text, whole)
}

/**
 * Show the text of the last run on a node that was loaded or pasted.
 * @param {any} node
 */
export function restoreText(node) {
  const text = node.properties?.[NAME]
  if (typeof text === 'string' && boxOf(node)) write(node, text, '')
}

/**
 * Show on the node why it failed.
 * @param {any} node
 * @param {string} message
 */
export const showFailure = (node, message) => showText(node, [FAILED + message])

/**
 * Whether a node has a box without a result: empty, or with an error.
 * @param {any} node
 */
export function lacksResult(node) {
  const text = boxOf(node)?.value
  return text === '' || Boolean(text?.startsWith(FAILED))
}

/**
 * @param {any} node
 * @param {string} text
 * @param {string} whole
 */
function write(node, text, whole) {
  const box = boxOf(node)
  box.value = text
  // Nodes 2.0 in front end 1.32 notices a new value only through the callback
  box.callback?.(text)
  growTo(node, Math.min(MAX_WIDTH, MARGIN + whole.length * WIDEST_CHARACTER))
  node.setDirtyCanvas?.(true, true)
}

/**
 * Make the node at least this wide, and as tall as its widgets need at that width.
 * @param {any} node
 * @param {number} width
 */
function growTo(node, width) {
  if (width > node.size[0]) {
    node.setSize([width, node.size[1]])
    // Nodes 2.0 in front end 1.32 doesn't follow setSize
    const drawn = globalThis.document?.querySelector(`[data-node-id="${node.id}"]`)
    if (drawn) /** @type {HTMLElement} */ (drawn).style.setProperty('--node-width', `${width}px`)
  }
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
}

/** @param {any} node */
const boxOf = (node) => widgetOf(node, NAME)
