import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { clearMessages } from '../../web/messages.js'
import { catchUp } from '../../web/other_workflows.js'
import { makeRoomForText } from '../../web/result_text.js'
import { holdBack, receive } from '../../web/results.js'
import { watchQueue } from '../../web/runs.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

const { toast } = app.extensionManager
/** @type {FakeNode} */
let merger
let count = 0

/**
 * Open a workflow with a merger and a node of another pack.
 * @param {string} id
 */
function open(id) {
  app.rootGraph = Object.assign(new FakeGraph(), { id })
  merger = app.rootGraph.add(new FakeNode([], { name: 'PM LoRA Merger' }))
  makeRoomForText(merger)
  app.rootGraph.add(new FakeNode([], { name: 'PreviewAny' }))
}

/**
 * Queue a prompt of a workflow; returns the event of a node's output.
 * @param {string} workflow
 * @param {any} output
 * @param {string} node
 * @param {string} type
 */
async function executed(workflow, output, node = '1', type = 'PM LoRA Merger') {
  const prompt_id = `prompt ${++count}`
  Object.assign(api, { queuePrompt: async () => ({ prompt_id }) })
  watchQueue()
  const prompt = { [node]: { class_type: type, inputs: {}, _meta: { title: 'Mix' } } }
  await /** @type {any} */ (api).queuePrompt(0, { output: prompt, workflow: { id: workflow } })
  return { node, display_node: node, prompt_id, output }
}

/** @param {any} detail */
function dispatch(detail) {
  holdBack(detail)
  const page = detail.display_node
  receive(detail)
  return page
}

beforeEach(() => {
  clearMessages()
  toast.shown = []
  Object.assign(globalThis, { LiteGraph: { registered_node_types: {} } })
  open('mine')
})

test('a run shows its text on the node', async () => {
  assert.equal(dispatch(await executed('mine', { text: ['one', 'two'] })), '1', 'the page gets it too')
  assert.equal(merger.widgets[0].value, 'one\ntwo')
  dispatch(await executed('mine', {}))
  dispatch(await executed('mine', null))
  assert.equal(merger.widgets[0].value, 'one\ntwo')
})

test('a result of another workflow waits for it, and the page is kept from showing it here', async () => {
  const output = { text: ['theirs'], warnings: ['does not fit'], picture_size: [100, 5000] }
  const { size } = merger
  assert.notEqual(dispatch(await executed('other', output)), '1')
  assert.equal(merger.widgets[0].value, '')
  assert.deepEqual(merger.size, size)
  assert.deepEqual(toast.shown.map(({ summary, detail }) => [summary, detail]), [['Mix, in another workflow', 'does not fit']])
  open('other')
  catchUp()
  assert.equal(merger.widgets[0].value, 'theirs')
  assert.ok(merger.size[1] > size[1])
})

test("the page shows nothing of another workflow's node on one of ours, and handles other packs' nodes alone", async () => {
  assert.notEqual(dispatch(await executed('other', { images: [{}] }, '1', 'PreviewImage')), '1')
  assert.equal(dispatch(await executed('other', { text: ['x'] }, '2', 'PreviewAny')), '2')
  assert.equal(dispatch(await executed('mine', { text: ['x'] }, '2', 'PreviewAny')), '2')
  assert.equal(merger.widgets[0].value, '')
})

test('a run that nobody knows of is shown', async () => {
  const detail = { node: '1', display_node: '1', prompt_id: "a program's", output: { text: ['by a program'] } }
  dispatch(detail)
  await new Promise((done) => setTimeout(done))
  assert.equal(merger.widgets[0].value, 'by a program')
})

test('after saving, the lists of files are read again, whichever workflow is open', async () => {
  for (const workflow of ['mine', 'other']) {
    api.asked = []
    dispatch(await executed(workflow, { text: ['m.safetensors'], saved: ['m.safetensors'] }, '1', 'PM LoRA Save'))
    assert.ok(api.asked.some((path) => path.includes('Loader')))
  }
})
