// @ts-check
// Shows the text that a run returns in a box on the node. It is neither saved nor part of the prompt.
import { app } from '../../scripts/app.js'
import { ComfyWidgets } from '../../scripts/widgets.js'

const NAME = 'result'
const PLACEHOLDER = 'The result of the run appears here.'
const MIN_HEIGHT = 48
const MAX_HEIGHT = 220
const LINE_HEIGHT = 15
const CHARACTER_WIDTH = 6.5
const SHOW_TEXT = ['PM LoRA Merger', 'PM LoRA SVD Merger', 'PM LoRA Save', 'PM LoRA Apply']

/**
 * Add the text box to a new node that shows results. Not only when there is a result: Nodes 2.0 in front end 1.32
 * doesn't draw widgets that are added after the first link.
 * @param {any} node
 */
export function makeRoomForText(node) {
  if (!SHOW_TEXT.includes(node.constructor.nodeData.name)) return
  const options = { multiline: true, placeholder: PLACEHOLDER }
  const { widget } = ComfyWidgets.STRING(node, NAME, ['STRING', options], app)
  widget.serialize = false
  Object.assign(widget.options, { serialize: false, read_only: true, getMinHeight: () => heightOf(widget.value, node.size[0]) })
  const element = widget.inputEl ?? widget.element
  if (element) element.readOnly = true
  const [width, height] = node.size
  node.setSize([width, Math.max(height, node.computeSize()[1])])
}

/**
 * The height of a text in a box as wide as the node, so that no warning is hidden below the edge of the box.
 * @param {string} text
 * @param {number} width of the node
 */
export function heightOf(text, width) {
  const characters = Math.max(10, (width - 50) / CHARACTER_WIDTH)
  const lines = (text ?? '').split('\n').reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / characters)), 0)
  return Math.min(MAX_HEIGHT, Math.max(MIN_HEIGHT, 14 + lines * LINE_HEIGHT))
}

/**
 * @param {any} node
 * @param {string[]} lines
 */
export function showText(node, lines) {
  const widget = node.widgets?.find((/** @type {any} */ each) => each.name === NAME)
  if (!widget) return
  widget.value = lines.join('\n')
  // Nodes 2.0 in front end 1.32 notices a new value only through the callback
  widget.callback?.(widget.value)
  const [width, height] = node.size
  node.setSize([width, Math.max(height, node.computeSize()[1])])
  node.setDirtyCanvas?.(true, true)
}
