import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { showCachedTexts } from '../../web/cached_text.js'
import { catchUp } from '../../web/other_workflows.js'
import { makeRoomForText } from '../../web/result_text.js'
import { forget } from '../../web/runs.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

/** @type {any} */
let box
const DETAIL = { nodes: ['1', '2'], prompt_id: 'now' }
/** @param {any} detail */
async function cached(detail) {
  showCachedTexts(detail)
  await new Promise((done) => setTimeout(done))
  forget(detail)
}

/** @param {number} strength of the loader before the merger */
const prompt = (strength) => ({
  1: { class_type: 'PM LoRA Merger', inputs: { mode: 'concat', lora1: ['2', 0] } },
  2: { class_type: 'PM LoRA Loader', inputs: { strength_model: strength } },
  3: { class_type: 'PM LoRA Save', inputs: { lora: ['1', 0], file_name: `${Math.random()}` } }
})

/**
 * @param {number} strength
 * @param {string} [text]
 */
const run = (strength, text) => ({ prompt: [0, 'id', prompt(strength)], outputs: text ? { 1: { text: [text] } } : {} })

/** @param {any[]} runs */
function serve(...runs) {
  api.answers = {
    '/queue': { queue_running: [[0, 'other', {}], [1, 'now', prompt(1)]] },
    '/history?max_items=20': Object.fromEntries(runs.entries())
  }
}

beforeEach(() => {
  api.asked = []
  const graph = new FakeGraph()
  const merger = graph.add(new FakeNode([], { name: 'PM LoRA Merger' }))
  graph.add(new FakeNode([], { name: 'PM LoRA Loader' }))
  makeRoomForText(merger)
  app.rootGraph = graph
  box = merger.widgets[0]
})

test('an empty box gets the text of the last run with the same settings', async () => {
  serve(run(1, 'first'), run(1, 'second'), run(1), run(0.5, 'other strength'))
  await cached(DETAIL)
  assert.equal(box.value, 'second')
})

test('settings of the nodes before count', async () => {
  serve(run(0.5, 'other strength'))
  await cached(DETAIL)
  assert.equal(box.value, '')
})

test('a box with a text needs no look into the history', async () => {
  box.value = 'here'
  await cached(DETAIL)
  assert.equal(box.value, 'here')
  assert.ok(!api.asked.some((path) => path.startsWith('/history')))
})

test('a run that has ended by now is found in the history', async () => {
  serve(run(1, 'first'))
  api.answers['/queue'] = { queue_running: [] }
  api.answers['/history?max_items=20'].now = run(1)
  await cached(DETAIL)
  assert.equal(box.value, 'first')
})

test('an error gives way to the text of an earlier run, or to nothing: a cached node has a result', async () => {
  box.value = 'Error: density is 0.'
  serve(run(1, 'first'))
  await cached(DETAIL)
  assert.equal(box.value, 'first')
  box.value = 'Error: density is 0.'
  serve(run(1))
  await cached(DETAIL)
  assert.equal(box.value, '')
})

test("a run of another workflow fills that workflow's boxes, once it is opened", async () => {
  serve(run(1, 'first'))
  Object.assign(api.answers['/queue'].queue_running[1], { 3: { extra_pnginfo: { workflow: { id: 'other' } } } })
  Object.assign(app.rootGraph, { id: 'mine' })
  await cached(DETAIL)
  assert.equal(box.value, '')
  Object.assign(app.rootGraph, { id: 'other' })
  catchUp()
  await new Promise((done) => setTimeout(done))
  assert.equal(box.value, 'first')
})

test('no answer, or an unknown run, leaves the box empty', async () => {
  api.answers = {}
  await cached(DETAIL)
  serve(run(1, 'first'))
  await cached({ ...DETAIL, prompt_id: 'ended' })
  await cached({ nodes: ['9', '2'], prompt_id: 'now' })
  assert.equal(box.value, '')
})
