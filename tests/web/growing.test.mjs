import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { loraSlots, tidy } from '../../web/growing.js'
import { FakeGraph, FakeNode } from './fakes.mjs'

/** @type {FakeGraph} */
let graph
/** @type {FakeNode[]} */
let loaders

beforeEach(() => {
  graph = new FakeGraph()
  loaders = [0, 1, 2, 3].map(() => graph.add(new FakeNode()))
})

/**
 * A merger in the graph with these inputs; connections by name of the input, to the loader of that index.
 * @param {string[]} inputs
 * @param {Record<string, number>} connections
 */
function merger(inputs, connections = {}) {
  const node = graph.add(new FakeNode(inputs))
  for (const [name, loader] of Object.entries(connections)) {
    loaders[loader].connect(0, node, inputs.indexOf(name))
  }
  return node
}

/**
 * The inputs in order, with the loader that each is connected to.
 * @param {FakeNode} node
 */
function connections(node) {
  return node.inputs.map(({ name }, index) => [name, loaders.findIndex(({ id }) => id === node.getInputLink(index)?.origin_id)])
}

test('loraSlots sorts by number and skips every other input', () => {
  const node = new FakeNode(['lora10', 'mode', 'lora2', 'lora', 'lora0', 'lora01', 'lora1x', 'xlora1', 'lora1'])
  assert.deepEqual(loraSlots(node), [{ index: 8, number: 1 }, { index: 2, number: 2 }, { index: 0, number: 10 }])
  assert.deepEqual(loraSlots({}), [])
})

test('a node with one free input is left as it is', () => {
  const node = merger(['lora1', 'mode'])
  const size = node.size
  tidy(node)
  assert.deepEqual(connections(node), [['lora1', -1], ['mode', -1]])
  assert.equal(node.size, size)
  assert.deepEqual(graph.triggered, [])
  assert.equal(node.dirty, 0)
})

test('connecting the last input adds one that is free', () => {
  const node = merger(['lora1', 'mode'], { lora1: 0 })
  tidy(node)
  assert.deepEqual(connections(node), [['lora1', 0], ['mode', -1], ['lora2', -1]])
  assert.deepEqual(node.inputs.at(-1), { name: 'lora2', type: 'LoRA', link: null })
})

test('an input is added to a node that has none', () => {
  const node = merger(['mode'])
  tidy(node)
  assert.deepEqual(connections(node), [['mode', -1], ['lora1', -1]])
})

test('disconnecting the last one removes free inputs from the end, all but one', () => {
  const node = merger(['lora1', 'lora2', 'lora3', 'lora4'], { lora1: 0 })
  tidy(node)
  assert.deepEqual(connections(node), [['lora1', 0], ['lora2', -1]])
})

test('with nothing connected one free input is left', () => {
  const node = merger(['lora1', 'lora2', 'lora3'])
  tidy(node)
  assert.deepEqual(connections(node), [['lora1', -1]])
})

test('a gap is closed and the LoRAs keep their order', () => {
  const node = merger(['lora1', 'lora2', 'lora3', 'lora4', 'lora5'], { lora2: 3, lora4: 1 })
  tidy(node)
  assert.deepEqual(connections(node), [['lora1', 3], ['lora2', 1], ['lora3', -1]])
  assert.equal(graph.links.size, 2)
})

test('order is by number, however the inputs lie on the node', () => {
  const node = merger(['lora3', 'mode', 'lora1', 'lora2'], { lora3: 0, lora2: 1 })
  tidy(node)
  // the freed one can't be removed: it stays as the one that is free
  assert.deepEqual(connections(node), [['lora3', -1], ['mode', -1], ['lora1', 1], ['lora2', 0]])
})

test('a moved link keeps its output and its reroute', () => {
  const node = merger(['lora1', 'lora2'])
  loaders[2].connect(1, node, 1, 77)
  tidy(node)
  const { origin_id, origin_slot, parentId } = node.getInputLink(0)
  assert.deepEqual({ origin_id, origin_slot, parentId }, { origin_id: loaders[2].id, origin_slot: 1, parentId: 77 })
  assert.equal(node.isInputConnected(1), false)
})

test("a link from a subgraph's own inputs is moved too", () => {
  const node = merger(['lora1', 'lora2'])
  graph.inputs[2].connect(node.inputs[1], node, 5)
  tidy(node)
  const { origin_id, origin_slot, parentId } = node.getInputLink(0)
  assert.deepEqual({ origin_id, origin_slot, parentId }, { origin_id: -10, origin_slot: 2, parentId: 5 })
})

test('a node that fits its inputs goes on fitting them, and keeps its width', () => {
  const node = merger(['lora1'], { lora1: 0 })
  node.size[0] = 345
  tidy(node)
  assert.deepEqual(node.size, [345, node.computeSize()[1]])
  loaders[0].connect(0, node, 1)
  tidy(node)
  node.disconnectInput(1)
  node.disconnectInput(0)
  tidy(node)
  assert.deepEqual(node.size, [345, node.computeSize()[1]])
  assert.equal(node.inputs.length, 1)
})

test('a node that the user made taller keeps its size', () => {
  const node = merger(['lora1'], { lora1: 0 })
  const size = [200, node.computeSize()[1] + 10]
  node.setSize(size)
  tidy(node)
  assert.equal(node.size, size)
})

test('a change of inputs is announced for Nodes 2.0 and redraws the canvas', () => {
  const node = merger(['lora1'], { lora1: 0 })
  tidy(node)
  const [[event, detail]] = graph.triggered
  assert.equal(event, 'node:slot-links:changed')
  assert.equal(detail.nodeId, node.id)
  assert.equal(detail.slotIndex, 1)
  assert.ok(node.dirty > 0)
})

test('a graph without events, as older front ends have it, is tidied too', () => {
  Object.assign(graph, { trigger: undefined })
  const node = merger(['lora1'], { lora1: 0 })
  tidy(node)
  assert.equal(node.inputs.length, 2)
})
