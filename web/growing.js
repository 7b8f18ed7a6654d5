// @ts-check
// An unlimited series of inputs lora1, lora2, ... on a node: the connected ones without gaps, then one free input.
// All changes go through connect, disconnectInput, addInput and removeInput: front ends after 1.49 keep links in a
// separate store and ignore writes to a slot's `link`.

const LORA_NAME = /^lora([1-9]\d*)$/

/**
 * The number of a LoRA input; 0 for other inputs.
 * @param {string} name
 */
export const loraNumber = (name) => Number(LORA_NAME.exec(name)?.[1] ?? 0)

/**
 * The node's LoRA inputs sorted by number, each with its index in `inputs`, which also lists widgets.
 * @param {any} node
 * @returns {{index: number, number: number}[]}
 */
export function loraSlots(node) {
  const slots = []
  for (const [index, { name }] of (node.inputs ?? []).entries()) {
    const number = loraNumber(name)
    if (number) slots.push({ index, number })
  }
  return slots.sort((a, b) => a.number - b.number)
}

/** the node whose links are being moved @type {any} */
let moving = null

/**
 * Leave a free input after the last one, as soon as that is connected: a page that opens a prompt in API format connects
 * the next one at once.
 * @param {any} node a node in a graph
 */
export function growAtOnce(node) {
  if (node === moving) return
  const fitted = node.size[1] <= node.computeSize()[1] + 1
  if (grow(node)) refit(node, fitted)
}

/**
 * Close the gaps between connected LoRA inputs and leave one free input after them.
 * @param {any} node a node in a graph
 */
export function tidy(node) {
  const fitted = node.size[1] <= node.computeSize()[1] + 1
  moving = node
  const moved = closeGaps(node)
  moving = null
  const trimmed = trim(node)
  const grown = grow(node)
  if (moved || trimmed || grown) refit(node, fitted)
}

/**
 * @param {any} node whose inputs have changed
 * @param {boolean} fitted whether it was as tall as they needed
 */
function refit(node, fitted) {
  if (fitted) node.setSize([node.size[0], node.computeSize()[1]])
  repaint(node)
}

// The next functions return whether they changed anything.

/** @param {any} node */
function closeGaps(node) {
  const slots = loraSlots(node)
  const connected = slots.filter(({ index }) => node.isInputConnected(index))
  let moved = false
  for (const [place, { index }] of connected.entries()) {
    const target = slots[place].index
    if (index !== target) {
      moveLink(node, index, target)
      moved = true
    }
  }
  return moved
}

/**
 * Move a link to another input of the node, keeping its origin and reroutes.
 * @param {any} node
 * @param {number} from
 * @param {number} to
 */
function moveLink(node, from, to) {
  const { origin_id, origin_slot, parentId } = node.getInputLink(from)
  const origin = node.graph.getNodeById(origin_id)
  if (origin) origin.connect(origin_slot, node, to, parentId)
  // the origin isn't a node but the subgraph's own input panel
  else node.graph.inputs[origin_slot].connect(node.inputs[to], node, parentId)
  node.disconnectInput(from)
}

/**
 * Remove all but one of the free inputs at the end. Never remove one in the middle: pasting connects by index, and
 * configure() moves the declared inputs back to the front.
 * @param {any} node
 */
function trim(node) {
  let removed = false
  for (let slots = loraSlots(node); slots.length > 1; slots.pop()) {
    const [before, last] = slots.slice(-2)
    if (node.isInputConnected(last.index) || node.isInputConnected(before.index)) break
    node.removeInput(last.index)
    removed = true
  }
  return removed
}

/** @param {any} node */
function grow(node) {
  const last = loraSlots(node).at(-1)
  if (last && !node.isInputConnected(last.index)) return false
  node.addInput(`lora${(last?.number ?? 0) + 1}`, 'LoRA')
  return true
}

/**
 * Nodes 2.0 in front ends before about 1.40 render a copy of `inputs` that only this event refreshes.
 * @param {any} node
 */
function repaint(node) {
  const { index } = /** @type {{index: number}} */ (loraSlots(node).at(-1))
  node.graph.trigger?.('node:slot-links:changed', {
    nodeId: node.id,
    slotType: 1,
    slotIndex: index,
    connected: false,
    linkId: -1
  })
  node.setDirtyCanvas?.(true, true)
}
