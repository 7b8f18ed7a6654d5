// @ts-check
// The cells of PM XY Grid: their places, their texts, and the recipe of one.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boxOf, cellsOf, durationOf, fileNameOf, layoutOf, placeOf, recipeOfCell, statusOf, textOf } from '../../web/grid_cells.js'
import { planOf } from '../../web/recipe_nodes.js'

/** @returns {import('../../web/grid_cells.js').State} */
const state = (more = {}) => ({
  size: [3, 1],
  columns: ['a 0.00', 'a 0.50', 'a 1.00'],
  rows: ['b 1.00'],
  done: ['1,1'],
  now: '2,1',
  seconds_left: 150,
  ...more
})
const MERGE = {
  loras: [
    { name: 'a', file: 'sub/a.safetensors', strength_model: 0.5, strength_clip: 0.5, strength: 0.5 },
    { name: 'b', file: 'b.safetensors', strength_model: 1, strength_clip: 0, strength: 1 }
  ],
  mode: 'ties_svd',
  density: 0.4,
  svd_rank: 8,
  parameters: {}
}
const CELL = { cell: '2,1', merges: [MERGE], sampling: { seed: 3, steps: 20, cfg: 7 } }

test('the status names the cell, and the time that is left once it is known', () => {
  assert.equal(statusOf(state(), true), 'cell 2/3: a 0.50 x b 1.00, about 3 min left')
  assert.equal(statusOf(state({ seconds_left: null }), true), 'cell 2/3: a 0.50 x b 1.00')
  assert.match(statusOf(state(), false), /^Stopped after 1 of 3 cells/)
  assert.equal(statusOf(state({ done: ['1,1', '2,1', '3,1'] }), false), '')
})

test('times are told in the unit that fits', () => {
  assert.deepEqual([12.4, 89, 100, 5000, 20000].map(durationOf), ['12 s', '89 s', '2 min', '83 min', '5 h 33 min'])
})

test('cells are counted row by row from 1', () => {
  const two = state({ size: [2, 2], columns: ['x', 'y'], rows: ['p', 'q'] })
  assert.deepEqual(cellsOf(two).map(({ place, label }) => `${place} ${label}`), ['1,1 x x p', '2,1 y x p', '1,2 x x q', '2,2 y x q'])
  assert.deepEqual(cellsOf(state({ rows: [] }))[0].label, 'a 0.00')
})

test('a cell is found in any spelling of its place', () => {
  assert.deepEqual(['2,1', ' 2 , 1 ', '2;1', '2 1'].map(placeOf), ['2,1', '2,1', '2,1', '2,1'])
})

test('boxes are where the layout says, and fill the box without one', () => {
  const layout = { left: 0.2, top: 0.1, cell_width: 0.38, cell_height: 0.9, gap_x: 0.04, gap_y: 0.02, aspect: 2 }
  assert.deepEqual(boxOf(layout, 1, 0), { left: '62.000%', top: '10.000%', width: '38.000%', height: '90.000%' })
  const plain = layoutOf(state())
  assert.equal(plain.aspect, 3)
  assert.ok(Math.abs(plain.left + 3 * plain.cell_width + 2 * plain.gap_x - 1) < 1e-9)
})

test('the settings of a cell are text, with what counts for its merge', () => {
  const text = textOf(CELL)
  assert.match(text, /^sub\/a.safetensors: 0.5$/m)
  assert.match(text, /^b.safetensors: 1 \(text encoder 0\)$/m)
  assert.match(text, /^mode: ties_svd$/m)
  assert.match(text, /seed: 3, steps: 20, cfg: 7/)
})

test('the recipe of a cell has the merger of its mode and the strengths of its LoRAs', () => {
  const recipe = recipeOfCell(CELL)
  assert.equal(recipe.operation, 'merge_svd')
  assert.deepEqual(recipe.inputs[1], { name: 'b', file: 'b.safetensors', strength_model: 1, strength_clip: 0 })
  assert.equal(recipe.svd_rank, 8)
  assert.equal(recipeOfCell({ ...CELL, merges: [] }), null)
})

test('a LoRA that is applied as it is becomes its loader, without a merger', () => {
  const alone = { loras: [MERGE.loras[0]] }
  const recipe = recipeOfCell({ ...CELL, merges: [alone] })
  assert.deepEqual(planOf(recipe, ['sub/a.safetensors'], 'a').nodes.map(({ type }) => type), ['PM LoRA Loader', 'PM LoRA Save'])
  assert.match(textOf({ ...CELL, merges: [alone] }), /^sub\/a.safetensors: 0.5\nsampling seed/)
})

test('a merge that takes the model says so beside its nodes, and not among its settings', () => {
  const [first, second] = MERGE.loras
  const byName = { ...MERGE, from_model_weights: true }
  const byWeight = { ...MERGE, loras: [{ ...first, from_model_weights: true }, second] }
  const files = MERGE.loras.map(({ file }) => file)
  for (const merge of [byName, byWeight]) {
    const { notes } = planOf(recipeOfCell({ ...CELL, merges: [merge] }), files, 'x')
    assert.match(notes.join(), /Connect the model and clip to the merger/)
    assert.doesNotMatch(textOf({ ...CELL, merges: [merge] }), /from_model/)
  }
  assert.deepEqual(planOf(recipeOfCell(CELL), files, 'x').notes, [])
})

test('the settings of a cell have what else the loaders were set to', () => {
  const read = { ...MERGE.loras[0], block_weights: ['1,0.5'], alpha_from: 'tensors' }
  const text = textOf({ ...CELL, merges: [{ ...MERGE, loras: [read] }] })
  assert.match(text, /^sub\/a.safetensors: 0.5, block weights 1,0.5, alpha from tensors$/m)
})

test('a cell of two sweeps is the exact sum of their merges', () => {
  const recipe = recipeOfCell({ ...CELL, merges: [MERGE, { ...MERGE, mode: 'add' }] })
  assert.deepEqual([recipe.operation, recipe.mode], ['merge', 'concat'])
  assert.deepEqual(recipe.inputs.map((/** @type {any} */ one) => one.made.operation), ['merge_svd', 'merge'])
})

test('the file of a cell is named after its LoRAs', () => {
  assert.equal(fileNameOf(CELL), 'a_b')
  assert.equal(fileNameOf({ merges: [] }), 'merged')
  const made = { name: 'styles/ink v1.5 + film', strength_model: 1, strength_clip: 1, made: {} }
  assert.equal(fileNameOf({ merges: [{ ...MERGE, loras: [made, MERGE.loras[0]] }] }), 'ink v1.5_film_a')
})

test('the pictures of a search have labels of their own, and a last row that may stay unfilled', () => {
  const search = { ...state(), size: /** @type {[number, number]} */ ([2, 2]), columns: [], rows: [], total: 3, labels: ['no LoRA', 'a alone'] }
  assert.deepEqual(cellsOf(search).map(({ label }) => label), ['no LoRA', 'a alone', '', ''])
  assert.match(statusOf({ ...search, done: ['1,1'], now: '2,1', seconds_left: null }, true), /^cell 2\/3: a alone$/)
  assert.equal(statusOf({ ...search, done: ['1,1', '2,1', '1,2'], now: null }, false), '')
  assert.match(statusOf({ ...search, done: ['1,1', '2,1'], now: null }, false), /^Stopped after 2 of 3 cells/)
})

test('the settings of a cell begin with its score', () => {
  assert.match(textOf({ ...CELL, score: 0.4126 }), /^score: 0.413\n/)
})
