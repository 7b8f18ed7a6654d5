import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { styleSheet } from '../../web/link_colours.js'
import '../../web/lora_power_merger.js'
import { document } from './document.mjs'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

const [extension] = app.extensions
const GROWING = { name: 'PM LoRA Merger', input: { optional: { lora1: ['LoRA', { growing: true }] } } }
const FIXED = { name: 'XY: PM LoRA Modes', input: { required: {} } }

/** @type {FakeGraph} */
let graph

beforeEach(() => {
  graph = new FakeGraph()
  app.configuringGraph = false
})

/**
 * The class of a node after the extension has seen it.
 * @param {any} nodeData
 * @param {any} prototype
 */
function registered(nodeData, prototype = {}) {
  extension.beforeRegisterNodeDef({ prototype }, nodeData)
  return prototype
}

/** A merger with one LoRA, and no input that is free. */
function connected() {
  const node = graph.add(new FakeNode(['lora1'], GROWING))
  graph.add(new FakeNode()).connect(0, node, 0)
  return node
}

test('one extension is registered', () => {
  assert.equal(app.extensions.length, 1)
})

test("other packs' nodes are left alone", () => {
  assert.deepEqual(registered({ name: 'KSampler' }), {})
  assert.deepEqual(registered({ name: 'My PM LoRA' }), {})
  assert.deepEqual(registered(undefined), {})
  extension.nodeCreated(new FakeNode([], { name: 'KSampler' }))
})

test('a handler that another pack put there is called, with its arguments and its result', () => {
  /** @type {any[]} */
  const calls = []
  const prototype = registered(GROWING, {
    onConfigure(/** @type {any[]} */ ...args) {
      calls.push([this, ...args])
      return 'kept'
    }
  })
  const node = connected()
  assert.equal(prototype.onConfigure.call(node, 1, 2), 'kept')
  assert.deepEqual(calls, [[node, 1, 2]])
})

test('a node is tidied once its handlers are done, and again after the next change', async () => {
  const { onConnectionsChange } = registered(GROWING)
  const node = connected()
  onConnectionsChange.call(node)
  assert.equal(node.inputs.length, 1)
  await Promise.resolve()
  assert.equal(node.inputs.length, 2)
  node.disconnectInput(0)
  onConnectionsChange.call(node)
  await Promise.resolve()
  assert.equal(node.inputs.length, 1)
})

test('the next input is there as soon as the last one is connected', () => {
  const { onConnectionsChange } = registered(GROWING)
  const node = connected()
  onConnectionsChange.call(node, 1, 0, true)
  assert.deepEqual(node.inputs.map(({ name }) => name), ['lora1', 'lora2'])
  onConnectionsChange.call(node, 1, 0, true)
  assert.equal(node.inputs.length, 2)
})

test('many changes at once tidy a node once', async () => {
  const { onConnectionsChange } = registered(GROWING)
  const measured = async (/** @type {number} */ changes) => {
    const node = connected()
    let count = 0
    node.computeSize = () => [150, ++count]
    while (changes--) onConnectionsChange.call(node)
    await Promise.resolve()
    return count
  }
  assert.equal(await measured(3), await measured(1))
})

test('widgets that the mode does not use are greyed out from the start, and after each change', () => {
  const uses = { density: ['ties'] }
  const nodeData = { ...GROWING, input: { required: { mode: [['concat', 'ties'], { uses }] } } }
  const { onConnectionsChange, onConfigure } = registered(nodeData)
  const node = graph.add(new FakeNode([], nodeData))
  const [mode, density] = (node.widgets = [{ name: 'mode', value: 'concat', disabled: false, callback: () => {} }, { name: 'density', disabled: false }])
  extension.nodeCreated(node)
  assert.equal(density.disabled, true)
  mode.value = 'ties'
  mode.callback?.()
  assert.equal(density.disabled, false)
  for (const handler of [onConnectionsChange, onConfigure]) {
    mode.value = mode.value === 'ties' ? 'concat' : 'ties'
    handler.call(node)
    assert.equal(density.disabled, mode.value === 'concat')
  }
})

test('a new node offers its presets', () => {
  const lbw = ['STRING', { presets: { INALL: '1,1,0' } }]
  const node = new FakeNode([], { name: 'PM LoRA Loader', input: { required: { lbw } } })
  node.widgets = [{ name: 'lbw', value: '' }]
  extension.nodeCreated(node)
  assert.equal(node.widgets.length, 2)
})

test('no node is tidied while the graph is configured, after it was removed, or if its inputs do not grow', async () => {
  const { onConnectionsChange } = registered(GROWING)
  const [configured, removed, fixed] = [connected(), connected(), connected()]
  app.configuringGraph = true
  onConnectionsChange.call(configured)
  app.configuringGraph = false
  onConnectionsChange.call(removed)
  removed.graph = null
  registered(FIXED).onConnectionsChange.call(fixed)
  await Promise.resolve()
  for (const node of [configured, removed, fixed]) assert.equal(node.inputs.length, 1)
})

test('a loaded node shows the text of its last run', () => {
  const node = new FakeNode([], GROWING)
  extension.nodeCreated(node)
  node.properties = { result: 'as before' }
  registered(GROWING).onConfigure.call(node)
  assert.equal(node.widgets[0].value, 'as before')
})

test('the page gets our styles once it is set up', () => {
  extension.setup()
  const styles = document.head.children
  assert.ok(styles.some((/** @type {any} */ one) => /power_loader\.css$/.test(one.attributes.href)))
  assert.ok(styles.some((/** @type {any} */ one) => one.textContent === styleSheet()))
})

test('results are shown on the node; warnings and errors become toasts, which the next run removes', async () => {
  extension.setup()
  const { toast } = app.extensionManager
  app.rootGraph = graph
  const node = graph.add(new FakeNode([], GROWING))
  extension.nodeCreated(node)
  const output = { text: ['one', 'two'], warnings: ['does not fit'] }
  api.dispatch('execution_start', { prompt_id: 'now' })
  api.dispatch('executed', { node: '1', prompt_id: 'now', output })
  api.dispatch('execution_error', { prompt_id: 'now', node_id: '9', node_type: 'PM LoRA Loader', exception_type: 'LoraError', exception_message: 'broken' })
  await new Promise((done) => setTimeout(done))
  assert.equal(node.widgets[0].value, 'one\ntwo')
  assert.deepEqual(toast.shown.map(({ detail }) => detail), ['does not fit', 'broken'])
  api.dispatch('execution_start', { prompt_id: 'next' })
  assert.deepEqual(toast.shown, [])
})

test('every merger of a loaded workflow is tidied, those in subgraphs too', () => {
  const nodes = [connected(), connected()]
  const fixed = graph.add(new FakeNode(['lora1', 'lora2', 'lora3'], FIXED))
  const subgraph = { nodes: undefined, _nodes: [nodes[1]] }
  app.rootGraph = { nodes: [nodes[0], fixed, Object.assign(new FakeNode(), { subgraph })] }
  extension.afterConfigureGraph()
  for (const node of nodes) assert.equal(node.inputs.length, 2)
  assert.equal(fixed.inputs.length, 3)
})

test('a workflow is mended before it is opened, with the definitions that the page has', () => {
  const required = { lora_a: [['a.safetensors']] }
  Object.assign(globalThis, { LiteGraph: { registered_node_types: { [FIXED.name]: { nodeData: { input: { required } } } } } })
  const workflow = { nodes: [{ id: 1, type: FIXED.name, widgets_values: ['ties', 0.5] }] }
  extension.beforeConfigureGraph(workflow)
  assert.deepEqual(workflow.nodes[0].widgets_values, ['a.safetensors', 'a.safetensors', 'ties', 0.5])
})
