// @ts-check
// Text that a node gives to the page when it has run, shown on the node: neither saved nor part of the prompt.
import { app } from '../../scripts/app.js'
import { ComfyWidgets } from '../../scripts/widgets.js'

const NAME = 'result'
const PLACEHOLDER = 'What the run did is shown here.'
const MIN_HEIGHT = 48
const MAX_HEIGHT = 220
const LINE_HEIGHT = 15
const CHARACTER_WIDTH = 6.5
const SHOW_TEXT = ['PM LoRA Merger', 'PM LoRA SVD Merger', 'PM LoRA Save', 'PM LoRA Apply']

/**
 * Give a new node of these its text box. Not only when there is something to show: Nodes 2.0 of front end 1.32 draws no
 * widget that comes after the first link.
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
 * The height that a text takes in a box as wide as its node: a note below the edge of the box would be overlooked.
 * @param {string} text
 * @param {number} width the node's
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
  // what tells Nodes 2.0 of front end 1.32 of a new value
  widget.callback?.(widget.value)
  const [width, height] = node.size
  node.setSize([width, Math.max(height, node.computeSize()[1])])
  node.setDirtyCanvas?.(true, true)
}
