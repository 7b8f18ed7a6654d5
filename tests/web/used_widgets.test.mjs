import assert from 'node:assert/strict'
import { test } from 'node:test'
import { greyOut, watchCombos } from '../../web/used_widgets.js'
import { FakeNode } from './fakes.mjs'

const USES = { density: ['ties', 'dare'], seed: ['dare'] }
const NODE_DATA = {
  input: {
    required: { mode: [['concat', 'ties', 'dare'], { uses: USES }], density: ['FLOAT', {}], seed: ['INT', {}] },
    optional: { lora1: ['LoRA'], method: [['fixed', 'ratio'], { uses: { value: ['ratio'] } }] }
  }
}

/**
 * @param {Record<string, any>} values of the widgets, by name
 * @param {any} nodeData
 */
function nodeWith(values, nodeData = NODE_DATA) {
  const node = new FakeNode([], nodeData)
  node.widgets = Object.entries(values).map(([name, value]) => ({ name, value, disabled: false }))
  return node
}

/** @param {FakeNode} node */
const greyedOut = (node) => node.widgets.filter(({ disabled }) => disabled).map(({ name }) => name)

for (const [mode, expected] of Object.entries({ concat: ['density', 'seed'], ties: ['seed'], dare: [] })) {
  test(`${mode} greys out ${expected.join(', ') || 'nothing'}`, () => {
    const node = nodeWith({ mode, density: 0.5, seed: 0, device: 'cpu' })
    greyOut(node)
    assert.deepEqual(greyedOut(node), expected)
    assert.ok(node.dirty > 0)
  })
}

test('a widget that counts again is usable again', () => {
  const node = nodeWith({ mode: 'concat', density: 0.5, seed: 0 })
  greyOut(node)
  node.widgets[0].value = 'dare'
  greyOut(node)
  assert.deepEqual(greyedOut(node), [])
})

test('a mode that comes through a link leaves every widget usable', () => {
  const node = nodeWith({ mode: 'concat', density: 0.5, seed: 0 })
  node.inputs = [{ name: 'mode', widget: { name: 'mode' }, link: 7 }]
  greyOut(node)
  assert.deepEqual(greyedOut(node), [])
  node.inputs[0].link = null
  greyOut(node)
  assert.deepEqual(greyedOut(node), ['density', 'seed'])
})

test('each combo has its own widgets, optional inputs among them', () => {
  const node = nodeWith({ mode: 'dare', density: 0.5, seed: 0, method: 'fixed', value: 1 })
  greyOut(node)
  assert.deepEqual(greyedOut(node), ['value'])
})

test('a widget that several combos know is usable if one of them uses it', () => {
  const axis = [['strength 1', 'mode'], { uses: { density: ['mode'], seed: ['mode'], x_values: ['strength 1', 'mode'] } }]
  const nodeData = { input: { ...NODE_DATA.input, optional: { x_parameter: axis } } }
  const node = nodeWith({ mode: 'ties', density: 0.5, seed: 0, x_parameter: 'strength 1', x_values: '' }, nodeData)
  greyOut(node)
  assert.deepEqual(greyedOut(node), ['seed'])
  node.widgets[3].value = 'mode'
  greyOut(node)
  assert.deepEqual(greyedOut(node), [])
  node.widgets[3].value = 'none'
  greyOut(node)
  assert.deepEqual(greyedOut(node), ['seed', 'x_values'])
})

test('combos and widgets that the node does not have are skipped', () => {
  const node = nodeWith({ density: 0.5 })
  greyOut(node)
  assert.deepEqual(greyedOut(node), [])
  greyOut(nodeWith({ mode: 'concat' }))
  greyOut(nodeWith({ mode: 'concat' }, undefined))
})

test('watchCombos follows the choice and keeps the callback that was there', () => {
  const node = nodeWith({ mode: 'concat', density: 0.5, seed: 0 })
  const [mode] = node.widgets
  /** @type {any[]} */
  const called = []
  mode.callback = function (/** @type {any[]} */ ...args) {
    called.push([this === mode, ...args])
    return 'result'
  }
  watchCombos(node)
  assert.deepEqual(greyedOut(node), ['density', 'seed'])
  mode.value = 'ties'
  assert.equal(mode.callback('ties', 'canvas'), 'result')
  assert.deepEqual(called, [[true, 'ties', 'canvas']])
  assert.deepEqual(greyedOut(node), ['seed'])
})

test('a combo that hides takes ignored widgets away and brings them back', () => {
  const uses = { np_mu: ['np_svd'], iso_blend: ['iso_svd'] }
  const nodeData = { input: { required: { mode: [['np_svd', 'iso_svd', 'tsv_svd'], { uses, hides: true }] } } }
  const node = nodeWith({ mode: 'np_svd', np_mu: 0.5, iso_blend: 0.3 }, nodeData)
  const hidden = () => node.widgets.filter((widget) => widget.hidden).map(({ name }) => name)
  greyOut(node)
  assert.deepEqual(hidden(), ['iso_blend'])
  node.widgets[0].value = 'tsv_svd'
  greyOut(node)
  assert.deepEqual(hidden(), ['np_mu', 'iso_blend'])
  node.inputs = [{ name: 'np_mu', widget: { name: 'np_mu' }, link: 3 }]
  greyOut(node)
  assert.deepEqual(hidden(), ['iso_blend'])
})

const HIDING = { input: { required: { mode: [['np_svd', 'tsv_svd'], { uses: { np_mu: ['np_svd'] }, hides: true }] } } }

test('hiding makes the node as tall as its visible widgets, and leaves its height alone otherwise', () => {
  const node = nodeWith({ mode: 'tsv_svd', np_mu: 0.5 }, HIDING)
  node.computeSize = () => [150, 30 + 20 * node.widgets.filter(({ hidden }) => !hidden).length]
  greyOut(node)
  assert.deepEqual(node.size, [200, 50])
  node.setSize([260, 300])
  greyOut(node)
  assert.deepEqual(node.size, [260, 300])
  node.widgets[0].value = 'np_svd'
  greyOut(node)
  assert.deepEqual(node.size, [260, 70])
})

test('Nodes 2.0 hides a widget if the page follows its options, and shows it if not', () => {
  const node = nodeWith({ mode: 'tsv_svd', np_mu: 0.5 }, HIDING)
  const [mode, widget] = node.widgets
  widget.options = { max: 1000 }
  greyOut(node)
  assert.deepEqual(widget.options, { max: 1000 })
  widget._state = { options: { max: 1000 } }
  greyOut(node)
  assert.deepEqual([widget.options.hidden, widget._state.options.hidden], [true, true])
  mode.value = 'np_svd'
  greyOut(node)
  assert.deepEqual([widget.options.hidden, widget._state.options.hidden], [false, false])
})

test('a hidden widget takes no room on older classic canvases', () => {
  const node = nodeWith({ mode: 'tsv_svd', np_mu: 0.5 }, HIDING)
  greyOut(node)
  assert.equal(node.widgets[1].computeSize()[1] + 4, 0)
  node.widgets[0].value = 'np_svd'
  greyOut(node)
  assert.equal(node.widgets[1].computeSize, undefined)
})
