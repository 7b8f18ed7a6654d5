import assert from 'node:assert/strict'
import { test } from 'node:test'
import { offerModes, toggled } from '../../web/mode_list.js'
import { FakeNode } from './fakes.mjs'

const CHOICES = ['concat', 'ties', 'ties_svd']

/** @param {any} choices */
function nodeWith(choices) {
  const node = new FakeNode([], { input: { required: { modes: ['STRING', { choices }] } } })
  node.widgets = [{ name: 'modes', value: 'concat' }]
  return node
}

test('a mode is added at the end, and removed when chosen again', () => {
  assert.equal(toggled('concat, ties', 'ties_svd'), 'concat, ties, ties_svd')
  assert.equal(toggled('concat, ties', 'concat'), 'ties')
  assert.equal(toggled(' Ties;\nconcat ', 'ties'), 'concat')
  assert.equal(toggled('add，ties；concat', 'ties'), 'add, concat')
  assert.equal(toggled('', 'ties'), 'ties')
  assert.equal(toggled('of the mode;of the sum', 'of the strongest'), 'of the mode, of the sum, of the strongest')
  assert.equal(toggled('Of the mode, of the sum', 'of the mode'), 'of the sum')
})

test('the combo lists every mode, writes into the text, and goes back to its first entry', () => {
  const node = nodeWith(CHOICES)
  /** @type {string[]} */
  const told = []
  node.widgets[0].callback = (/** @type {string} */ value) => told.push(value)
  offerModes(node)
  const [text, combo] = node.widgets
  assert.deepEqual(combo.options.values.slice(1), CHOICES)
  assert.deepEqual([combo.serialize, combo.options.serialize], [false, false])
  combo.value = 'ties_svd'
  combo.callback('ties_svd')
  assert.deepEqual([text.value, told, combo.value], ['concat, ties_svd', ['concat, ties_svd'], combo.options.values[0]])
  combo.callback(combo.options.values[0])
  assert.equal(text.value, 'concat, ties_svd')
})

test('other nodes get no combo', () => {
  for (const node of [nodeWith(undefined), nodeWith([]), new FakeNode([], { input: {} }), new FakeNode()]) {
    const count = node.widgets.length
    offerModes(node)
    assert.equal(node.widgets.length, count)
  }
})
