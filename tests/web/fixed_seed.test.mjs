import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keepSeed } from '../../web/fixed_seed.js'
import { FakeNode } from './fakes.mjs'

/** @param {string} name */
function nodeWith(name) {
  const node = new FakeNode([], { name })
  node.widgets = [{ name: 'seed', value: 3 }, { name: 'control_after_generate', value: 'randomize' }]
  return node
}

test('a new grid keeps its seed', () => {
  const node = nodeWith('PM XY Grid')
  keepSeed(node)
  assert.deepEqual(node.widgets.map(({ value }) => value), [3, 'fixed'])
})

test('other nodes, and a grid without the control, are left alone', () => {
  const other = nodeWith('KSampler')
  keepSeed(other)
  assert.equal(other.widgets[1].value, 'randomize')
  assert.doesNotThrow(() => keepSeed(new FakeNode([], { name: 'PM XY Grid' })))
})
