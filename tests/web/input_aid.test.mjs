import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addChoice, CHOOSE } from '../../web/input_aid.js'
import { FakeNode } from './fakes.mjs'

test('a choice is handed on, and the combo shows its own word again', () => {
  const node = new FakeNode()
  /** @type {string[]} */
  const chosen = []
  const combo = addChoice(node, 'add a mode', ['ties', 'concat'], (choice) => chosen.push(choice))
  for (const value of [CHOOSE, 'gone', 'concat']) {
    combo.value = value
    combo.callback(value)
  }
  assert.deepEqual(chosen, ['concat'])
  assert.equal(combo.value, CHOOSE)
  assert.equal(node.widgets[0], combo)
  assert.deepEqual(combo.options.values, [CHOOSE, 'ties', 'concat'])
})

test('the combo is not saved and the node grows for it', () => {
  const node = new FakeNode()
  const before = node.size[1]
  const combo = addChoice(node, 'add a mode', ['ties'], () => {})
  assert.deepEqual([combo.serialize, combo.options.serialize], [false, false])
  assert.ok(node.size[1] > before)
})
