// @ts-check
// The grid on PM XY Grid's node: it grows with events, a click or a key picks a cell, and it is there after a reload.
import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { addGridView, endGrids, finishGrid, gridMenuItems, growGrid, restoreGrid } from '../../web/grid_view.js'
import { document } from './document.mjs'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { app } from './stubs/app.mjs'

const LAYOUT = { left: 0.1, top: 0.1, cell_width: 0.4, cell_height: 0.4, gap_x: 0.01, gap_y: 0.01, aspect: 1 }
const FILE = { filename: 'PM.XY_1.jpg', subfolder: '', type: 'temp' }
const state = (more = {}) => ({
  size: [2, 2],
  columns: ['a 0', 'a 1'],
  rows: ['b 0', 'b 1'],
  done: ['1,1'],
  now: '2,1',
  seconds_left: 12,
  running: true,
  layout: LAYOUT,
  picture: FILE,
  ...more
})
const ALL = ['1,1', '2,1', '1,2', '2,2']
const cells = ALL.map((cell) => ({
  cell,
  merges: [{ loras: [{ name: 'a', file: 'a.safetensors', strength: 1 }], mode: 'concat' }],
  sampling: { seed: 1, steps: 2, cfg: 3 }
}))

/** @type {any} */
let node
/** @type {any} */
let root

class GridNode extends FakeNode {
  /**
   * @param {string} name
   * @param {string} type
   * @param {any} element
   * @param {any} options
   */
  addDOMWidget(name, type, element, options) {
    root = element
    const widget = { name, type, element, options }
    this.widgets.push(widget)
    return widget
  }
}

beforeEach(() => {
  const graph = new FakeGraph()
  app.rootGraph = graph
  node = graph.add(new GridNode(['X', 'Y'], { name: 'PM XY Grid' }))
  node.type = 'PM XY Grid'
  node.widgets = [{ name: 'steps', value: 20 }, { name: 'pick', value: '' }, { name: 'max_cells', value: 400 }]
  addGridView(node)
})

const find = (/** @type {string} */ name) => root.querySelector(`.${name}`)
const cell = (/** @type {string} */ place) => root.find((/** @type {any} */ one) => one.dataset.cell === place)
const image = () => root.find((/** @type {any} */ one) => one.tag === 'img')
const pick = () => node.widgets[1].value
const status = () => find('pm-grid-status').textContent
/** @param {any} one */
const send = (one) => growGrid({ node: String(node.id), ...one })

test('before a run the node says what it would sample', () => {
  assert.equal(status(), '1 cell x 20 steps')
  assert.equal(find('pm-grid-stage').hidden, true)
})

test('the grid so far is shown with the cell and the time that is left', () => {
  send(state())
  assert.equal(status(), 'cell 2/4: a 1 x b 0, about 12 s left')
  assert.match(image().attributes.src, /PM.XY_1.jpg/)
  assert.ok(cell('2,1').classList.contains('pm-now'))
  assert.equal(find('pm-grid-bar').hidden, false)
})

test('events of nodes in other graphs are ignored', () => {
  growGrid({ node: '7:3', .../** @type {any} */ (state()) })
  assert.equal(find('pm-grid-stage').hidden, true)
})

test('between two cells the node does not say that it stopped', () => {
  send(state({ now: null }))
  assert.equal(status(), 'cell 2/4, about 12 s left')
})

test('a stop keeps the picture and says how far it came', () => {
  send(state())
  send(state({ now: null, running: false }))
  endGrids()
  assert.match(status(), /^Stopped after 1 of 4 cells/)
  assert.match(image().attributes.src, /PM.XY_1.jpg/)
})

test('the finished picture takes the place of the last one; the page draws none itself', () => {
  send(state())
  const output = { images: [{ ...FILE, filename: 'PM.XY_00001_.png' }], xy_grid: [state({ done: ALL, now: null, running: false, cells })] }
  node.imgs = ['drawn by the page']
  finishGrid(node, output)
  assert.match(image().attributes.src, /00001_.png/)
  assert.equal(node.imgs, undefined)
  assert.equal(node.hideOutputImages, true)
  assert.equal(output.images, undefined, 'an old page would draw it')
  assert.equal(status(), '1 cell x 20 steps')
})

test('a click picks a cell, a second one unpicks it', () => {
  const told = /** @type {any[]} */ ([])
  node.widgets[1].callback = (/** @type {string} */ value) => told.push(value)
  finishGrid(node, { images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  cell('2,1').emit('click')
  assert.equal(pick(), '2,1')
  assert.equal(cell('2,1').attributes['aria-selected'], 'true')
  assert.match(find('pm-grid-about').textContent, /a.safetensors: 1/)
  assert.match(status(), /^Picked 2,1: a 1 x b 0/)
  assert.equal(gridMenuItems(node).length, 2)
  cell('2,1').emit('click')
  assert.equal(pick(), '')
  assert.equal(find('pm-grid-panel').hidden, true)
  assert.deepEqual(told, ['2,1', ''])
})

test('arrows move between cells, of which Tab stops at one', () => {
  finishGrid(node, { images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  const stage = find('pm-grid-stage')
  for (const [key, place] of [['ArrowRight', '2,1'], ['ArrowDown', '2,2'], ['ArrowDown', '2,2'], ['ArrowLeft', '1,2']]) {
    stage.emit('keydown', { key })
    document.activeElement?.emit?.('focus')
    assert.equal(document.activeElement.dataset.cell, place)
  }
  assert.deepEqual(ALL.filter((place) => cell(place).attributes.tabindex === '0'), ['1,2'])
})

test('a pick from another node is not overwritten', () => {
  finishGrid(node, { images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  node.inputs.push({ name: 'pick', link: 5, widget: { name: 'pick' } })
  cell('2,1').emit('click')
  assert.equal(pick(), '')
})

test('a saved workflow shows its grid again', () => {
  finishGrid(node, { images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  const { properties } = node
  node = app.rootGraph.add(new GridNode(['X', 'Y'], { name: 'PM XY Grid' }))
  node.widgets = [{ name: 'pick', value: '1,2' }]
  addGridView(node)
  node.properties = JSON.parse(JSON.stringify(properties))
  restoreGrid(node)
  assert.match(image().attributes.src, /PM.XY_1.jpg/)
  assert.equal(cell('1,2').attributes['aria-selected'], 'true')
  image().emit('error')
  assert.equal(cell('1,2').textContent, '1,2', 'without the picture, the cells can be picked by their place')
})

test('a pick that is no cell of the grid is told', () => {
  finishGrid(node, { images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  node.widgets[1].value = '9,9'
  restoreGrid(node)
  assert.match(status(), /9,9, which is no cell/)
})

test('the pictures of PM Find Strengths are shown, but none can be picked', () => {
  node = app.rootGraph.add(new GridNode([], { name: 'PM LoRA Find Strengths' }))
  node.type = 'PM LoRA Find Strengths'
  node.widgets = [{ name: 'budget', value: 6 }, { name: 'steps', value: 20 }]
  addGridView(node)
  growGrid(/** @type {any} */ (state({ node: String(node.id), columns: [], rows: [], total: 3, labels: ['no LoRA'] })))
  assert.equal(status(), 'cell 2/3, about 12 s left')
  assert.ok(['1,1', '2,1', '1,2', '2,2'].every((place) => cell(place).disabled))
})
