import assert from 'node:assert/strict'
import { test } from 'node:test'
import { offerPresets } from '../../web/presets.js'
import { FakeNode } from './fakes.mjs'

const PRESETS = { 'SD-ALL': '1,1,1', INALL: '1,1,0' }

/**
 * A node with a widget lbw, whose presets these are.
 * @param {any} presets
 */
function nodeWith(presets) {
  const node = new FakeNode([], { input: { required: { lbw: ['STRING', { presets }] } } })
  node.widgets = [{ name: 'lbw', value: '' }]
  return node
}

test('the combo offers the presets, and is neither saved nor part of the prompt', () => {
  const node = nodeWith(PRESETS)
  offerPresets(node)
  const combo = node.widgets[1]
  assert.equal(combo.type, 'combo')
  assert.deepEqual(combo.options.values.slice(1), ['SD-ALL', 'INALL'])
  assert.equal(combo.value, combo.options.values[0])
  assert.deepEqual([combo.serialize, combo.options.serialize], [false, false])
  assert.ok(node.size[1] >= node.computeSize()[1])
})

test('choosing a preset writes its weights into lbw and puts the combo back', () => {
  const node = nodeWith(PRESETS)
  /** @type {string[]} */
  const told = []
  node.widgets[0].callback = (/** @type {string} */ value) => told.push(value)
  offerPresets(node)
  const [lbw, combo] = node.widgets
  const [choose] = combo.options.values
  combo.value = 'INALL'
  combo.callback('INALL')
  assert.equal(lbw.value, 'INALL:1,1,0')
  assert.deepEqual(told, ['INALL:1,1,0'])
  assert.equal(combo.value, choose)
})

test('choosing no preset changes nothing', () => {
  const node = nodeWith(PRESETS)
  node.widgets[0].value = '1,0.5'
  offerPresets(node)
  node.widgets[1].callback(node.widgets[1].options.values[0])
  assert.equal(node.widgets[0].value, '1,0.5')
})

test('a node without lbw or without presets gets no combo', () => {
  const nodes = [nodeWith({}), nodeWith(undefined), new FakeNode([], { input: {} }), new FakeNode()]
  for (const node of nodes) {
    const count = node.widgets.length
    offerPresets(node)
    assert.equal(node.widgets.length, count)
  }
  const hidden = nodeWith(PRESETS)
  hidden.widgets = []
  offerPresets(hidden)
  assert.deepEqual(hidden.widgets, [])
})
