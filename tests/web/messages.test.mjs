import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { clearMessages, showError, showWarnings } from '../../web/messages.js'
import { catchUp } from '../../web/other_workflows.js'
import { makeRoomForText } from '../../web/result_text.js'
import { watchQueue } from '../../web/runs.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

const { toast } = app.extensionManager

/** @type {FakeNode} */
let merger

/**
 * Queue a prompt with the merger.
 * @param {string} prompt_id
 * @param {string} workflow
 */
async function queue(prompt_id, workflow) {
  Object.assign(api, { queuePrompt: async () => ({ prompt_id }) })
  watchQueue()
  const output = { 1: { class_type: 'PM LoRA Merger', _meta: { title: 'Their merge' } } }
  await /** @type {any} */ (api).queuePrompt(0, { output, workflow: { id: workflow } })
}

beforeEach(async () => {
  clearMessages()
  toast.shown = []
  const graph = new FakeGraph()
  merger = graph.add(new FakeNode([], { name: 'PM LoRA Merger' }))
  Object.assign(merger, { title: 'My merge' })
  makeRoomForText(merger)
  app.rootGraph = Object.assign(graph, { id: 'mine' })
  await queue('now', 'mine')
})

/** @param {object} [more] */
const failure = (more) => ({
  prompt_id: 'now',
  node_id: String(merger.id),
  node_type: 'PM LoRA Merger',
  exception_type: 'LoraError',
  exception_message: 'density is 0.\n',
  ...more
})

test('an error goes into the box of its node and into a toast that stays', () => {
  showError(failure())
  assert.equal(merger.widgets[0].value, 'Error: density is 0.')
  assert.deepEqual(toast.shown, [{ severity: 'error', summary: 'My merge', detail: 'density is 0.' }])
})

test("an error of another workflow is a toast that says so, and stands on that workflow's node", async () => {
  await queue('theirs', 'other')
  showError(failure({ prompt_id: 'theirs' }))
  assert.equal(merger.widgets[0].value, '')
  assert.deepEqual(toast.shown.map(({ summary }) => summary), ['Their merge, in another workflow'])
  Object.assign(app.rootGraph, { id: 'other' })
  catchUp()
  assert.equal(merger.widgets[0].value, 'Error: density is 0.')
})

test('the same error again takes the place of the first toast', () => {
  showError(failure())
  showError(failure({ exception_message: 'another' }))
  assert.deepEqual(toast.shown.map(({ detail }) => detail), ['another'])
})

test("another pack's node that runs a merge of ours shows our error by its type", () => {
  showError(failure({ node_id: '77', node_type: 'KSampler (Efficient)' }))
  assert.deepEqual(toast.shown.map(({ summary }) => summary), ['KSampler (Efficient)'])
  assert.equal(merger.widgets[0].value, '')
})

test("other packs' errors are left to the page", () => {
  showError(failure({ node_type: 'KSampler', exception_type: 'RuntimeError' }))
  assert.deepEqual(toast.shown, [])
})

test('an error of ours that is no LoraError is shown too', () => {
  showError(failure({ node_type: 'XY: PM LoRA Modes', node_id: '9', exception_type: 'RuntimeError' }))
  assert.equal(toast.shown.length, 1)
})

test('warnings go away by themselves, and all toasts with the next run', () => {
  showWarnings({ node: '1', workflow: 'mine' }, { nodes: {} }, ['a', 'b'])
  const [shown] = toast.shown
  assert.deepEqual([shown.severity, shown.summary, shown.detail], ['warn', 'My merge', 'a\nb'])
  assert.ok(shown.life > 5000)
  showError(failure({ node_id: '5' }))
  assert.equal(toast.shown.length, 2)
  clearMessages()
  assert.deepEqual(toast.shown, [])
})

test('a page without toasts shows the error in the box alone', () => {
  const manager = app.extensionManager
  Object.assign(app, { extensionManager: undefined })
  try {
    showError(failure())
    clearMessages()
  } finally {
    app.extensionManager = manager
  }
  assert.equal(merger.widgets[0].value, 'Error: density is 0.')
})

test("the page's own notice of the same failure is closed, one of several errors is not", () => {
  let closed = 0
  const dismiss = { click: () => closed++ }
  const notice = { textContent: 'My merge failed', querySelector: () => dismiss }
  Object.assign(globalThis, { document: { querySelector: () => notice }, requestAnimationFrame: (/** @type {() => void} */ call) => call() })
  try {
    showError(failure())
    assert.equal(closed, 1)
    notice.textContent = '2 errors'
    showError(failure())
    assert.equal(closed, 1)
    Object.assign(globalThis, { document: { querySelector: () => null } })
    showError(failure())
  } finally {
    Object.assign(globalThis, { document: undefined, requestAnimationFrame: undefined })
  }
})
