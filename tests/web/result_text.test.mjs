import assert from 'node:assert/strict'
import { test } from 'node:test'
import { heightOf, makeRoomForText, restoreText, showText } from '../../web/result_text.js'
import { FakeNode } from './fakes.mjs'

const LOWEST = 48
const HIGHEST = 220
const WIDTH = 300

test('a box without text has the lowest height', () => {
  assert.equal(heightOf('', WIDTH), LOWEST)
  // @ts-expect-error a widget that was never set
  assert.equal(heightOf(undefined, WIDTH), LOWEST)
})

test('each line adds the same height', () => {
  const heights = [4, 5, 6].map((count) => heightOf(Array(count).fill('x').join('\n'), WIDTH))
  assert.ok(heights[0] > LOWEST)
  assert.equal(heights[1] - heights[0], heights[2] - heights[1])
})

test('empty lines count', () => {
  assert.equal(heightOf('a\n\n\n\na', WIDTH), heightOf('a\na\na\na\na', WIDTH))
})

test('a long line counts as the lines that it is wrapped into', () => {
  const text = 'x'.repeat(200)
  assert.ok(heightOf(text, WIDTH) > heightOf('x', WIDTH))
  assert.ok(heightOf(text, 200) > heightOf(text, 600))
})

test('a node too narrow for a word is given ten letters a line', () => {
  assert.ok(heightOf('x'.repeat(50), 20) < HIGHEST)
})

test('a long text stops at the greatest height', () => {
  assert.equal(heightOf('x\n'.repeat(500), WIDTH), HIGHEST)
  assert.equal(heightOf('x'.repeat(1e5), 0), HIGHEST)
})

/** @param {string} name */
function created(name) {
  const node = new FakeNode(['lora1'], { name })
  makeRoomForText(node)
  return node
}

const SHOWN = ['Merger', 'SVD Merger', 'Resizer', 'Save', 'Apply', 'Bake', 'Extract']

for (const name of SHOWN.map((word) => `PM LoRA ${word}`)) {
  test(`${name} gets a text box that is no part of the prompt and not editable`, () => {
    const { widgets } = created(name)
    assert.equal(widgets.length, 1)
    const [{ serialize, options, inputEl }] = widgets
    assert.deepEqual([serialize, options.serialize, options.read_only, inputEl.readOnly], [false, false, true, true])
  })
}

test('other nodes get no text box', () => {
  assert.deepEqual(created('PM LoRA Loader').widgets, [])
})

test('makeRoomForText makes the node tall enough and never lower', () => {
  const node = created('PM LoRA Merger')
  assert.deepEqual(node.size, [200, node.computeSize()[1]])
  const tall = new FakeNode([], { name: 'PM LoRA Merger' })
  tall.setSize([200, 900])
  makeRoomForText(tall)
  assert.deepEqual(tall.size, [200, 900])
})

test("the box's height follows its text and the node's width", () => {
  const node = created('PM LoRA Merger')
  const [widget] = node.widgets
  assert.equal(widget.options.getMinHeight(), LOWEST)
  widget.value = 'x'.repeat(300)
  const narrow = widget.options.getMinHeight()
  node.size[0] = 700
  assert.ok(widget.options.getMinHeight() < narrow)
})

test('showText writes the lines, calls back and redraws', () => {
  const node = created('PM LoRA Merger')
  const [widget] = node.widgets
  /** @type {string[]} */
  const told = []
  widget.callback = (/** @type {string} */ value) => told.push(value)
  showText(node, ['merged 84 modules', 'rank 16'])
  assert.equal(widget.value, 'merged 84 modules\nrank 16')
  assert.deepEqual(told, [widget.value])
  assert.ok(node.dirty > 0)
})

test('the text is kept in the properties, among others, and restored from them', () => {
  const node = created('PM LoRA Merger')
  node.properties = { 'Node name for S&R': 'PM LoRA Merger' }
  showText(node, ['84 modules', 'rank 16'])
  assert.deepEqual(node.properties, { 'Node name for S&R': 'PM LoRA Merger', result: '84 modules\nrank 16' })
  const again = created('PM LoRA Merger')
  again.properties = JSON.parse(JSON.stringify(node.properties))
  restoreText(again)
  assert.equal(again.widgets[0].value, '84 modules\nrank 16')
})

test('a node that never ran has nothing to restore', () => {
  for (const properties of [undefined, {}, { result: 5 }]) {
    const node = created('PM LoRA Merger')
    node.properties = properties
    restoreText(node)
    assert.equal(node.widgets[0].value, '')
  }
})

test('a node becomes wide enough for a path, within limits, and never narrower', () => {
  const node = created('PM LoRA Save')
  showText(node, ['short.safetensors'], 'short.safetensors')
  assert.equal(node.size[0], 200)
  const path = `${'long'.repeat(12)}.safetensors`
  showText(node, [path, 'a note '.repeat(60)], path)
  const width = node.size[0]
  assert.ok(width > path.length * 6 && width < 640)
  showText(node, ['short.safetensors'], 'short.safetensors')
  assert.equal(node.size[0], width)
  showText(node, ['x'.repeat(900)], 'x'.repeat(900))
  assert.equal(node.size[0], 640)
})

test('showText leaves a node without a text box alone', () => {
  showText(new FakeNode(), ['x'])
  showText({}, ['x'])
  restoreText({ properties: { result: 'x' } })
})
