import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openWholePrompts, withoutGaps } from '../../web/api_prompts.js'
import { app } from './stubs/app.mjs'

test('LoRAs are numbered without gaps, in their order', () => {
  const inputs = { lora10: ['10', 0], lora_stack: ['s', 0], lora3: ['3', 0], mode: 'ties', lora1: ['1', 0] }
  const wanted = { lora_stack: ['s', 0], mode: 'ties', lora1: ['1', 0], lora2: ['3', 0], lora3: ['10', 0] }
  assert.deepEqual(Object.entries(withoutGaps(inputs)), Object.entries(wanted))
})

test('only nodes that grow are changed, and the prompt of the caller is not', () => {
  const prompt = {
    1: { class_type: 'grows', inputs: { lora2: ['3', 0] } },
    2: { class_type: 'is fixed', inputs: { lora2: ['3', 0] } },
    3: { class_type: 'grows' }
  }
  const before = structuredClone(prompt)
  /** @type {any[]} */
  let opened = []
  Object.assign(app, { loadApiJson: (/** @type {any[]} */ ...args) => (opened = args) })
  openWholePrompts((type) => type === 'grows')
  const { loadApiJson } = /** @type {any} */ (app)
  loadApiJson(prompt, 'name')
  assert.deepEqual(opened[0][1].inputs, { lora1: ['3', 0] })
  assert.deepEqual(opened[0][2], prompt[2])
  assert.deepEqual(opened[0][3].inputs, {})
  assert.equal(opened[1], 'name')
  assert.deepEqual(prompt, before)
})

test('a page that opens no such prompts is left alone', () => {
  Object.assign(app, { loadApiJson: undefined })
  openWholePrompts(() => true)
  assert.equal(/** @type {any} */ (app).loadApiJson, undefined)
})
