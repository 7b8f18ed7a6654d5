import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { showCachedTexts } from '../../web/cached_text.js'
import { makeRoomForText } from '../../web/result_text.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

/** @type {any} */
let box
const DETAIL = { nodes: ['1', '2'], prompt_id: 'now' }

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
  await showCachedTexts(DETAIL)
  assert.equal(box.value, 'second')
})

test('settings of the nodes before count', async () => {
  serve(run(0.5, 'other strength'))
  await showCachedTexts(DETAIL)
  assert.equal(box.value, '')
})

test('a box with a text asks for nothing', async () => {
  box.value = 'here'
  await showCachedTexts(DETAIL)
  assert.equal(box.value, 'here')
  assert.deepEqual(api.asked, [])
})

test('a run that has ended by now is found in the history', async () => {
  serve(run(1, 'first'))
  api.answers['/queue'] = { queue_running: [] }
  api.answers['/history?max_items=20'].now = run(1)
  await showCachedTexts(DETAIL)
  assert.equal(box.value, 'first')
})

test('an error gives way to the text of an earlier run, or to nothing: a cached node has a result', async () => {
  box.value = 'Error: density is 0.'
  serve(run(1, 'first'))
  await showCachedTexts(DETAIL)
  assert.equal(box.value, 'first')
  box.value = 'Error: density is 0.'
  serve(run(1))
  await showCachedTexts(DETAIL)
  assert.equal(box.value, '')
})

test('no answer, or an unknown run, leaves the box empty', async () => {
  api.answers = {}
  await showCachedTexts(DETAIL)
  serve(run(1, 'first'))
  await showCachedTexts({ ...DETAIL, prompt_id: 'ended' })
  await showCachedTexts({ nodes: ['9', '2'], prompt_id: 'now' })
  assert.equal(box.value, '')
})
