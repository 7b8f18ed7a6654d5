// @ts-check
// PM XY Grid says how many cells it is about to sample, from the nodes on its axes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countOf, planText } from '../../web/grid_plan.js'
import { FakeGraph, FakeNode } from './fakes.mjs'

/**
 * @param {string} type
 * @param {Record<string, any>} widgets
 * @param {string[]} inputs
 */
function make(type, widgets, inputs = []) {
  const node = new FakeNode(inputs)
  Object.assign(node, { type })
  node.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value }))
  return node
}

test('the values of every XY node are counted', () => {
  const strengths = { values: '', steps: 4, min_strength: 0, max_strength: 1 }
  const cases = /** @type {[string, Record<string, any>, number, number | null][]} */ ([
    ['XY: PM LoRA Strengths', strengths, 0, 4],
    ['XY: PM LoRA Strengths', { ...strengths, values: '0.4, 0.7 1' }, 1, 3],
    ['XY: PM LoRA Strengths', { ...strengths, max_strength: 0 }, 0, 1],
    ['XY: PM LoRA Modes', { modes: 'add, ties\nadd', values: '', density_steps: 5, min_density: 0, max_density: 1 }, 0, 2],
    ['XY: PM LoRA Modes', { modes: 'add', values: '', density_steps: 5, min_density: 0, max_density: 1 }, 1, 5],
    ['XY: PM LoRA SVD Rank', { values: '', rank_steps: 9, min_rank: 1, max_rank: 3 }, 0, 3],
    ['XY: PM Sampling', { axis: 'seed +', values: '0, 1, 2' }, 0, 3],
    ['XY: PM Sampling', { axis: 'seed +', values: '0，1；2' }, 0, 3],
    ['XY: PM Sampling', { axis: 'positive prompt', values: 'a cat\na dog, big' }, 0, 2],
    ['XY: PM LoRA Sweep', { x_parameter: 'strength 1', x_values: '0..1 x 5', y_parameter: 'none', y_values: '' }, 0, 5],
    ['XY: PM LoRA Sweep', { x_parameter: 'mode', x_values: 'add, ties', y_parameter: 'none', y_values: '' }, 1, 1],
    ['XY: PM LoRA Sweep', { x_parameter: 'strength 1', x_values: '0..1 x 3, 0.5; 2 3' }, 0, 5],
    ['XY: PM LoRA Sweep', { x_parameter: 'weights', x_values: 'as given, equal energy' }, 0, 2],
    ['XY: PM LoRA Sweep', { x_parameter: 'svd_rank', x_values: '1..4 x 10' }, 0, 4],
    ['XY: PM LoRA Sweep', { x_parameter: 'mode', x_values: 'TIES, ties, add' }, 0, 2],
    ['XY: PM LoRA Modes', { modes: 'Ties, ties' }, 0, 1],
    ['XY: PM LoRA Strengths', { values: '0.4, .4, 1' }, 0, 2],
    ['XY: PM LoRA Files', { files: 'a\nb\n\na', limit: 0 }, 0, 2],
    ['XY: PM LoRA Files', { files: 'a\nb\nc', limit: 2 }, 0, 2],
    ['XY: PM LoRA Files', { files: 'epoch-*', limit: 0 }, 0, null],
    ['XY Input: LoRA', {}, 0, null]
  ])
  for (const [type, widgets, output, wanted] of cases) assert.equal(countOf(make(type, widgets), output), wanted, type)
})

test('the plan multiplies the axes, and says when there are more cells than allowed', () => {
  const graph = new FakeGraph()
  const grid = graph.add(make('PM XY Grid', { steps: 20, max_cells: 400 }, ['X', 'Y']))
  assert.equal(planText(grid), '1 cell x 20 steps')
  const seeds = graph.add(make('XY: PM Sampling', { axis: 'seed +', values: '0 1 2' }))
  seeds.connect(0, grid, 0)
  seeds.connect(0, grid, 1)
  assert.equal(planText(grid), '9 cells x 20 steps')
  grid.widgets[1].value = 8
  assert.equal(planText(grid), '9 cells: more than max_cells (8) allows')
  grid.widgets[1].value = 400
  seeds.widgets[0].value = 'steps'
  assert.equal(planText(grid), '9 cells', 'the steps differ from cell to cell')
})

test('an axis that cannot be counted on the page is a question mark', () => {
  const graph = new FakeGraph()
  const grid = graph.add(make('PM XY Grid', { steps: 20, max_cells: 400 }, ['X', 'Y']))
  const files = graph.add(make('XY: PM LoRA Files', { files: 'epoch-*', limit: 0 }))
  const seeds = graph.add(make('XY: PM Sampling', { axis: 'seed +', values: '0 1 2' }, ['axis']))
  files.connect(0, grid, 0)
  assert.equal(planText(grid), '? cells, 20 steps each')
  seeds.connect(0, grid, 1)
  assert.equal(planText(grid), '? x 3 cells, 20 steps each')
  files.connect(0, grid, 1)
  assert.equal(planText(grid), '? x ? cells, 20 steps each')
  seeds.connect(0, grid, 0)
  assert.equal(planText(grid), '3 x ? cells, 20 steps each')
  grid.widgets[1].value = 2
  assert.equal(planText(grid), '3 x ? cells: more than max_cells (2) allows')
})

test('steps are said only where no axis may change them', () => {
  const graph = new FakeGraph()
  const grid = graph.add(make('PM XY Grid', { steps: 20, max_cells: 400 }, ['X', 'Y', 'steps']))
  graph.add(make('XY Input: Steps', { batch_count: 3 })).connect(0, grid, 0)
  assert.equal(planText(grid), '3 cells')
  graph.inputs[0].connect(grid.inputs[0], grid) // from outside a subgraph: it may be steps
  assert.equal(planText(grid), '? cells')
  const seeds = graph.add(make('XY: PM Sampling', { axis: 'seed +', values: '0 1 2' }, ['axis']))
  seeds.connect(0, grid, 0)
  assert.equal(planText(grid), '3 cells x 20 steps')
  seeds.inputs[0].widget = { name: 'axis' }
  graph.inputs[1].connect(seeds.inputs[0], seeds)
  assert.equal(planText(grid), '? cells')
})

test('a search says its budget', () => {
  const graph = new FakeGraph()
  const search = graph.add(make('PM LoRA Find Strengths', { steps: 20, budget: 40 }, ['budget', 'steps']))
  assert.equal(planText(search), '40 pictures x 20 steps')
  graph.inputs[0].connect(search.inputs[0], search)
  assert.equal(planText(search), '? pictures, 20 steps each')
  graph.inputs[1].connect(search.inputs[1], search)
  assert.equal(planText(search), '? pictures')
})

test('reference pictures are those without LoRAs and of each connected LoRA', () => {
  const graph = new FakeGraph()
  const inputs = ['lora_stack', 'lora1', 'lora2', 'lora3']
  const node = graph.add(make('PM LoRA References', { steps: 20, pictures: 4 }, inputs))
  const loader = graph.add(make('PM LoRA Loader', {}))
  assert.equal(planText(node), '? pictures, 20 steps each')
  loader.connect(0, node, 1)
  loader.connect(0, node, 2)
  assert.equal(planText(node), '12 pictures x 20 steps')
  loader.connect(0, node, 0)
  assert.equal(planText(node), '? pictures, 20 steps each', 'only the run knows the LoRAs of a stack')
})

test('a node that is being moved into a subgraph, and is in no graph meanwhile, is not counted', () => {
  const graph = new FakeGraph()
  const grid = graph.add(make('PM XY Grid', { steps: 20, max_cells: 400 }, ['X', 'Y']))
  graph.inputs[0].connect(grid.inputs[0], grid)
  grid.graph = null
  assert.equal(planText(grid), '')
})

test('a muted axis is none, and neither is a bypassed one: the run has no values for it', () => {
  const graph = new FakeGraph()
  const grid = graph.add(make('PM XY Grid', { steps: 20, max_cells: 400 }, ['X', 'Y', 'steps']))
  const axis = Object.assign(graph.add(make('XY: PM Sampling', { axis: 'seed +', values: '0 1 2' }, ['lora1'])), { outputs: [{ type: 'XY' }] })
  axis.connect(0, grid, 0)
  const steps = graph.add(make('PrimitiveNode', {}))
  steps.connect(0, grid, 2)
  assert.equal(planText(grid), '3 cells')
  Object.assign(steps, { mode: 2 })
  for (const mode of [2, 4]) {
    Object.assign(axis, { mode })
    assert.equal(planText(grid), '1 cell x 20 steps')
  }
  Object.assign(axis, { mode: 0 })
  assert.equal(planText(grid), '3 cells x 20 steps')
})

test('a muted LoRA needs no reference pictures; a bypassed node hands on the LoRA before it', () => {
  const graph = new FakeGraph()
  const node = graph.add(make('PM LoRA References', { steps: 20, pictures: 4 }, ['lora_stack', 'lora1', 'lora2']))
  const [loader, muted, strength] = ['Loader', 'Loader', 'Strength'].map((name) =>
    Object.assign(graph.add(make(`PM LoRA ${name}`, {}, name === 'Strength' ? ['weight', 'lora'] : [])), { outputs: [{ type: 'LoRA' }] })
  )
  Object.assign(muted, { mode: 2 })
  Object.assign(strength, { mode: 4 })
  loader.connect(0, strength, 1)
  strength.connect(0, node, 1)
  muted.connect(0, node, 2)
  assert.equal(planText(node), '8 pictures x 20 steps')
  Object.assign(loader, { mode: 4 })
  assert.equal(planText(node), '? pictures, 20 steps each', 'no LoRA is left')
})
