import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endGrids, growGrid, restoreGrid } from '../../web/grid_nodes.js'
import { catchUp } from '../../web/other_workflows.js'
import { ALL, FILE, cell, cells, find, finish, image, node, send, show, state, status } from './grid_node.mjs'
import { app } from './stubs/app.mjs'

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

test('where the cells cannot be counted before a run, the node says how many there were in the last', () => {
  app.rootGraph.inputs[0].connect(node.inputs[0], node)
  growGrid(/** @type {any} */ (state({ node: String(node.id) })))
  assert.equal(status(), 'cell 2/4: a 1 x b 0, about 12 s left')
  finish({ images: [FILE], xy_grid: [finished()] })
  assert.equal(status(), '? cells; 4 in the last run')
})

test('events of nodes in other graphs are ignored', () => {
  growGrid({ node: '7:3', .../** @type {any} */ (state()) })
  assert.equal(find('pm-grid-stage').hidden, true)
})

/** @param {string} id of the workflow that is open */
const open = (id) => Object.assign(/** @type {any} */ (app.rootGraph), { id })
const finished = (/** @type {any} */ more = {}) => state({ done: ALL, now: null, running: false, cells, ...more })

test('a run of another workflow is not drawn on a node with the same id, and is shown when its workflow is opened', () => {
  open('mine')
  send(state({ workflow: 'other' }))
  assert.equal(find('pm-grid-stage').hidden, true)
  assert.equal(node.properties, undefined)
  open('other')
  catchUp()
  assert.equal(status(), 'cell 2/4: a 1 x b 0, about 12 s left')
  assert.equal(node.properties.xy_grid.workflow, undefined, 'a copy of the workflow has another id')
})

test('a run that finished while another workflow was open shows its grid later', () => {
  open('mine')
  send(state({ workflow: 'other' }))
  const output = { images: [{ ...FILE, filename: 'PM.XY_00001_.png' }], xy_grid: [finished({ workflow: 'other' })] }
  finish(output, 'other')
  endGrids()
  assert.equal(find('pm-grid-stage').hidden, true)
  open('other')
  catchUp()
  assert.match(image().attributes.src, /00001_.png/)
  assert.equal(find('pm-grid-bar').hidden, true)
})

test('the output of a run of this workflow counts, whatever workflow it was made in', () => {
  open('mine')
  finish({ images: [FILE], xy_grid: [finished({ workflow: 'copied from' })] }, 'mine')
  assert.match(image().attributes.src, /PM.XY_1.jpg/)
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
  finish(output)
  assert.match(image().attributes.src, /00001_.png/)
  assert.equal(node.imgs, undefined)
  assert.equal(node.hideOutputImages, true)
  assert.equal(output.images, undefined, 'an old page would draw it')
  assert.equal(status(), '1 cell x 20 steps')
})

test('an output that takes much memory is said, until the workflow is opened again', () => {
  finish({ images: [FILE], xy_grid: [finished({ memory: '4.7 GiB' })] })
  assert.equal(status(), '1 cell x 20 steps; the output cells takes 4.7 GiB of memory')
  restoreGrid(node)
  assert.equal(status(), '1 cell x 20 steps')
})

test('a saved workflow shows its grid again', () => {
  finish({ images: [FILE], xy_grid: [state({ done: ALL, now: null, running: false, cells })] })
  const { properties } = node
  show('PM XY Grid', { pick: '1,2' })
  node.properties = JSON.parse(JSON.stringify(properties))
  restoreGrid(node)
  assert.match(image().attributes.src, /PM.XY_1.jpg/)
  assert.equal(cell('1,2').attributes['aria-selected'], 'true')
  image().emit('error')
  assert.equal(cell('1,2').textContent, '1,2', 'without the picture, the cells can be picked by their place')
})

test('reference pictures are shown while they are sampled, but none can be picked', () => {
  show('PM LoRA References', { pictures: 2, steps: 20 })
  growGrid(/** @type {any} */ (state({ node: String(node.id), columns: ['seed 1', 'seed 2'], rows: ['no LoRA', 'ink'] })))
  assert.equal(status(), 'cell 2/4: seed 2 x no LoRA, about 12 s left')
  assert.ok(['1,1', '2,1', '1,2', '2,2'].every((place) => cell(place).disabled))
})

test('the pictures of PM Find Strengths are shown, but none can be picked', () => {
  show('PM LoRA Find Strengths', { budget: 6, steps: 20 })
  growGrid(/** @type {any} */ (state({ node: String(node.id), columns: [], rows: [], total: 3, labels: ['no LoRA'] })))
  assert.equal(status(), 'cell 2/3, about 12 s left')
  assert.ok(['1,1', '2,1', '1,2', '2,2'].every((place) => cell(place).disabled))
})
