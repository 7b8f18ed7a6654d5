import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gridMenuItems, restoreGrid } from '../../web/grid_nodes.js'
import { document } from './document.mjs'
import { ALL, FILE, cell, cells, find, finish, node, pick, state, status } from './grid_node.mjs'

test('a click picks a cell, a second one unpicks it', () => {
  const told = /** @type {any[]} */ ([])
  node.widgets[1].callback = (/** @type {string} */ value) => told.push(value)
  finish({ images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
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
  finish({ images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  const stage = find('pm-grid-stage')
  for (const [key, place] of [['ArrowRight', '2,1'], ['ArrowDown', '2,2'], ['ArrowDown', '2,2'], ['ArrowLeft', '1,2']]) {
    stage.emit('keydown', { key })
    document.activeElement?.emit?.('focus')
    assert.equal(document.activeElement.dataset.cell, place)
  }
  assert.deepEqual(ALL.filter((place) => cell(place).attributes.tabindex === '0'), ['1,2'])
})

test('a pick from another node is not overwritten', () => {
  finish({ images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  node.inputs.push({ name: 'pick', link: 5, widget: { name: 'pick' } })
  cell('2,1').emit('click')
  assert.equal(pick(), '')
})

test('a pick that is no cell of the grid is told', () => {
  finish({ images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  node.widgets[1].value = '9,9'
  restoreGrid(node)
  assert.match(status(), /9,9, which is no cell/)
})
