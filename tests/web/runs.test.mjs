import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { begin, forget, knownRun, watchQueue, whenKnown } from '../../web/runs.js'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

const PROMPT = { 5: { class_type: 'PM LoRA Save', inputs: {}, _meta: { title: 'Keep it' } } }
const NODES = { 5: { type: 'PM LoRA Save', title: 'Keep it' } }
let count = 0
/** @type {string} */
let id

beforeEach(() => {
  id = `run ${++count}`
  api.answers = {}
  api.asked = []
  delete (/** @type {any} */ (app.extensionManager).workflow)
})

/**
 * Queue a prompt from the page.
 * @param {any} answer the server's
 */
function queue(answer = { prompt_id: id }) {
  const queued = /** @type {any[]} */ ([])
  Object.assign(api, { queuePrompt: async (/** @type {any[]} */ ...args) => (queued.push(args), answer) })
  watchQueue()
  return /** @type {any} */ (api).queuePrompt(0, { output: PROMPT, workflow: { id: 'w' } }, 'more').then((/** @type {any} */ given) => [given, queued])
}

test('the workflow of a run that the page queues is known, and the call is passed on as it is', async () => {
  const tab = { path: 'mine.json', activeState: { id: 'w' } }
  Object.assign(app.extensionManager, { workflow: { activeWorkflow: tab } })
  const [given, [args]] = await queue()
  assert.deepEqual(given, { prompt_id: id })
  assert.deepEqual(args, [0, { output: PROMPT, workflow: { id: 'w' } }, 'more'])
  assert.deepEqual(knownRun(id), { workflow: 'w', nodes: NODES, tab })
  begin({ prompt_id: id })
  assert.equal(knownRun(), knownRun(id))
  forget({ prompt_id: id })
  assert.equal(knownRun(id), undefined)
  assert.equal(knownRun(), undefined)
  assert.deepEqual(api.asked, [])
})

test('the tab of another workflow, opened while the prompt was made, is not taken for its own', async () => {
  Object.assign(app.extensionManager, { workflow: { activeWorkflow: { activeState: { id: 'another' } } } })
  await queue()
  assert.equal(knownRun(id)?.tab, undefined)
})

test('a refused prompt is no run, and its refusal reaches the page', async () => {
  Object.assign(api, { queuePrompt: async () => { throw new Error('refused') } })
  watchQueue()
  await assert.rejects(/** @type {any} */ (api).queuePrompt(0, {}), /refused/)
})

test('an event that comes before the answer of the server waits for it', async () => {
  const seen = /** @type {any[]} */ ([])
  const queued = queue()
  whenKnown(id, (run) => seen.push(run.workflow))
  assert.deepEqual(seen, [])
  await queued
  await new Promise((done) => setTimeout(done))
  assert.deepEqual(seen, ['w'])
  assert.deepEqual(api.asked, [])
})

test('the server is asked once about a run from before the page was loaded', async () => {
  api.answers = { '/queue': { queue_running: [[0, id, PROMPT, { extra_pnginfo: { workflow: { id: 'w' } } }]] } }
  const seen = /** @type {any[]} */ ([])
  for (const number of [1, 2]) whenKnown(id, (run) => seen.push([number, run]))
  await new Promise((done) => setTimeout(done))
  const run = { workflow: 'w', nodes: NODES }
  assert.deepEqual(seen, [[1, run], [2, run]])
  assert.deepEqual(api.asked, ['/queue'])
})

test('a run that has ended by now is found in the history; of one that is in neither nothing is known', async () => {
  api.answers = { '/queue': { queue_running: [] }, [`/history/${id}`]: { [id]: { prompt: [0, id, PROMPT, {}] } } }
  const seen = /** @type {any[]} */ ([])
  whenKnown(id, (run) => seen.push(run))
  whenKnown('nobody knows', (run) => seen.push(run))
  await new Promise((done) => setTimeout(done))
  assert.deepEqual(seen, [{ workflow: undefined, nodes: NODES }, { workflow: undefined, nodes: {} }])
})
