// @ts-check
// Inputs lora1, lora2, ... without end on a node: the connected ones in order, then one that is free.
// Everything goes through the node's own connect, disconnectInput, addInput and removeInput: front ends after 1.49 keep
// links in a store of their own and ignore what is written to a slot's link.

const GROWN = /^lora([1-9]\d*)$/

/**
 * The node's LoRA slots in the order of their numbers, by index. Widgets have slots in `inputs` too.
 * @param {any} node
 * @returns {{index: number, number: number}[]}
 */
export function loraSlots(node) {
  const slots = []
  for (const [index, { name }] of (node.inputs ?? []).entries()) {
    const found = GROWN.exec(name)
    if (found) slots.push({ index, number: Number(found[1]) })
  }
  return slots.sort((a, b) => a.number - b.number)
}

/**
 * Close gaps among the connected LoRA inputs and leave one free input behind them.
 * @param {any} node a node that lies in a graph
 */
export function tidy(node) {
  const fitted = node.size[1] <= node.computeSize()[1] + 1
  const moved = closeGaps(node)
  const trimmed = trim(node)
  const grown = grow(node)
  if (!moved && !trimmed && !grown) return
  if (fitted) node.setSize([node.size[0], node.computeSize()[1]])
  repaint(node)
}

/**
 * Each of these three says whether it changed anything.
 * @param {any} node
 */
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
 * The same origin to another input of the node, through the same reroutes.
 * @param {any} node
 * @param {number} from
 * @param {number} to
 */
function moveLink(node, from, to) {
  const { origin_id, origin_slot, parentId } = node.getInputLink(from)
  const origin = node.graph.getNodeById(origin_id)
  if (origin) origin.connect(origin_slot, node, to, parentId)
  // no node: the panel of a subgraph's own inputs
  else node.graph.inputs[origin_slot].connect(node.inputs[to], node, parentId)
  node.disconnectInput(from)
}

/**
 * Remove free inputs from the end, all but one. Never from the middle: pasting connects by index, and a node's
 * configure() puts the declared inputs first again.
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
 * Nodes 2.0 of front ends before 1.40 or so draw from a copy of `inputs`, which only this event renews.
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
