import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CHOOSE } from '../../web/input_aid.js'
import { offerValues, showValues } from '../../web/value_lists.js'
import { FakeNode } from './fakes.mjs'

const HINTS = { x_values: { density: '0.3, 0.8', mode: 'ties, concat', weights: 'average' } }
const LISTS = { x_values: { mode: ['ties', 'concat'], weights: ['as given', 'average'] } }
const AID = 'add or remove x values'

/** @param {string} parameter */
function nodeWith(parameter) {
  const axis = [['density', 'mode', 'weights'], { hints: HINTS, lists: LISTS }]
  const node = new FakeNode([], { input: { required: {}, optional: { x_parameter: axis, x_values: ['STRING', {}] } } })
  node.widgets = [
    { name: 'x_parameter', value: parameter },
    { name: 'x_values', value: '', element: {}, options: {} }
  ]
  offerValues(node)
  return node
}

/**
 * @param {any} node
 * @param {string} name
 */
const widget = (node, name) => node.widgets.find((/** @type {any} */ each) => each.name === name)

/**
 * @param {any} node
 * @param {string} name
 * @param {string} value
 */
function choose(node, name, value) {
  const chosen = widget(node, name)
  chosen.value = value
  chosen.callback(value)
}

test('the hint is that of the chosen parameter', () => {
  const node = nodeWith('density')
  const text = widget(node, 'x_values')
  assert.equal(text.element.placeholder, '0.3, 0.8')
  choose(node, 'x_parameter', 'mode')
  assert.equal(text.element.placeholder, 'ties, concat')
  widget(node, 'x_parameter').value = 'none' // as a loaded workflow does, without a callback
  showValues(node)
  assert.equal(text.element.placeholder, '')
})

test('names are added and removed by a combo that is there for parameters with names only', () => {
  const node = nodeWith('density')
  const aid = widget(node, AID)
  assert.equal(aid.hidden, true)
  choose(node, 'x_parameter', 'mode')
  assert.deepEqual([aid.hidden, aid.options.values], [false, [CHOOSE, 'ties', 'concat']])
  choose(node, AID, 'concat')
  choose(node, AID, 'ties')
  choose(node, AID, 'concat')
  assert.deepEqual([widget(node, 'x_values').value, aid.value], ['ties', CHOOSE])
  choose(node, 'x_parameter', 'weights')
  choose(node, AID, 'concat') // of another parameter
  assert.equal(widget(node, 'x_values').value, 'ties')
  choose(node, 'x_parameter', 'density')
  assert.equal(aid.hidden, true)
  assert.equal(aid.serialize, false)
})

test('Nodes 2.0 follows the stored names, and has all of them where the page stores none', (t) => {
  t.after(() => delete (/** @type {any} */ (globalThis).LiteGraph))
  Object.assign(globalThis, { LiteGraph: { vueNodesMode: true } })
  const node = nodeWith('density')
  const aid = widget(node, AID)
  choose(node, 'x_parameter', 'weights')
  assert.deepEqual(aid.options.values, [CHOOSE, 'ties', 'concat', 'as given', 'average'])
  choose(node, AID, 'ties')
  assert.equal(widget(node, 'x_values').value, '')
  aid._state = { options: {} }
  choose(node, 'x_parameter', 'mode')
  assert.deepEqual([aid.options.values, aid._state.options.values], Array(2).fill([CHOOSE, 'ties', 'concat']))
})

test('a node without such options is left alone', () => {
  const node = new FakeNode([], { input: { required: { mode: [['ties'], {}] } } })
  node.widgets = [{ name: 'mode', value: 'ties' }]
  offerValues(node)
  assert.deepEqual(node.widgets, [{ name: 'mode', value: 'ties' }])
  offerValues(new FakeNode())
})
