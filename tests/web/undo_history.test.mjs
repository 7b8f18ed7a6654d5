import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { app } from './stubs/app.mjs'
import { resultComes } from '../../web/undo_history.js'

const RESIZED = 300

/** @type {any} */
let tracker
/** @type {any} */
let node

/** A saved workflow. @param {any[]} nodes */
const saved = (...nodes) => ({ nodes })
/** @param {any} [more] */
const merger = (more = {}) => ({ id: 1, type: 'merger', size: [300, 200], properties: { own: 'kept' }, ...more })

/** @type {any} */
const manager = app.extensionManager

beforeEach(() => {
  const initial = saved(merger())
  tracker = { initialState: initial, activeState: initial, undoQueue: [], redoQueue: [], told: 0 }
  tracker.updateModified = () => tracker.told++
  const graph = { nodes: [] }
  app.rootGraph = graph
  manager.workflow = { activeWorkflow: { changeTracker: tracker } }
  node = { id: 1, type: 'merger', graph, size: [300, 200], properties: {} }
})

/** @param {any} context @param {string | undefined} name @param {() => void} show */
async function shown(context, name, show) {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  resultComes(node, name)
  show()
  await Promise.resolve()
  context.mock.timers.tick(RESIZED)
}

test('a result is in every workflow of the history, beside what the node had', async (context) => {
  tracker.undoQueue = [saved(merger()), saved()]
  tracker.redoQueue = [saved(merger())]
  await shown(context, 'result', () => (node.properties.result = { text: 'new' }))
  for (const state of [tracker.activeState, tracker.undoQueue[0], tracker.redoQueue[0]]) {
    assert.deepEqual(state.nodes[0].properties, { own: 'kept', result: { text: 'new' } })
    assert.deepEqual(state.nodes[0].size, [300, 200])
  }
  assert.deepEqual(tracker.undoQueue[1].nodes, [])
})

test('the page learns that there is something to save', async (context) => {
  await shown(context, 'result', () => (node.properties.result = 'new'))
  assert.deepEqual(tracker.initialState.nodes[0].properties, { own: 'kept' })
  assert.ok(tracker.told > 0)
})

test('a node that a result resizes has that size in the history', async (context) => {
  tracker.undoQueue = [saved(merger({ size: { 0: 200, 1: 900 } }))]
  await shown(context, undefined, () => (node.size = [300, 640]))
  assert.deepEqual(tracker.activeState.nodes[0].size, [300, 640])
  assert.deepEqual(tracker.undoQueue[0].nodes[0].size, { 0: 300, 1: 640 })
})

test('a size that comes a little later counts too', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  resultComes(node, 'result')
  node.properties.result = 'new'
  await Promise.resolve()
  node.size = [300, 500]
  context.mock.timers.tick(RESIZED)
  assert.deepEqual(tracker.activeState.nodes[0].size, [300, 500])
})

test('a size that the user gives a node afterwards is theirs', async (context) => {
  await shown(context, 'result', () => (node.properties.result = 'new'))
  context.mock.timers.reset()
  node.size = [400, 900]
  await shown(context, 'result', () => (node.properties.result = 'newer'))
  assert.deepEqual(tracker.activeState.nodes[0].size, [300, 200])
})

test('a node in a subgraph is told from one with its id outside, and other types from ours', async (context) => {
  node.graph = { id: 'inner' }
  const other = saved(merger({ type: 'another' }))
  tracker.undoQueue = [{ ...saved(merger()), definitions: { subgraphs: [{ id: 'inner', nodes: [merger()] }] } }, other]
  await shown(context, 'result', () => (node.properties.result = 'new'))
  const [state] = tracker.undoQueue
  assert.deepEqual(state.nodes[0].properties, { own: 'kept' })
  assert.deepEqual(state.definitions.subgraphs[0].nodes[0].properties, { own: 'kept', result: 'new' })
  assert.deepEqual(other.nodes[0].properties, { own: 'kept' })
})

test('a page whose ids are text saves numbers', async (context) => {
  node.id = '1'
  await shown(context, 'result', () => (node.properties.result = 'new'))
  assert.equal(tracker.activeState.nodes[0].properties.result, 'new')
})

test('a page without a history is fine', async (context) => {
  manager.workflow = undefined
  await shown(context, 'result', () => (node.properties.result = 'new'))
})
