import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { mendWorkflow } from '../../web/older_packs.js'

const FILES = ['first.safetensors', 'second.safetensors']
/** @param {string} type */
const nodeData = (type) => (type.startsWith('XY: ') ? { input: { required: { lora_a: [FILES, {}] } } } : undefined)

/** @param {any} workflow */
function mended(workflow) {
  const copy = structuredClone(workflow)
  mendWorkflow(copy, nodeData)
  return copy
}

/** @param {string} name a workflow that one of the older packs saved */
const saved = (name) => JSON.parse(readFileSync(new URL(`../browser/workflows/${name}.json`, import.meta.url), 'utf8'))

/**
 * @param {any} workflow
 * @param {string} type
 */
const only = (workflow, type) => workflow.nodes.find((/** @type {any} */ node) => node.type === type)

/** @param {any} node */
const inputNames = (node) => node.inputs.map((/** @type {any} */ input) => input.name)

const SVD = 'PM LoRA SVD Merger'

test('a workflow of this pack stays as it is', () => {
  const workflow = {
    nodes: [
      {
        id: 1,
        type: 'PM LoRA Merger',
        inputs: [
          { name: 'lora1', type: 'LoRA', link: 1 },
          { name: 'mode', type: 'COMBO', widget: { name: 'mode' }, link: null },
          { name: 'lora3', type: 'LoRA', link: null },
          { name: 'lora2', type: 'LoRA', link: null }
        ],
        widgets_values: ['ties', 0.5, 'cpu', 'float32', 0]
      },
      { id: 2, type: SVD, inputs: [], widgets_values: ['ties_svd', 0.5, 32, 0, 'cpu', 'float32', 0] },
      { id: 3, type: 'XY: PM LoRA Modes', widgets_values: ['a.safetensors', 'b.safetensors', 'ties'] },
      { id: 4, type: 'XY: PM LoRA SVD Rank', widgets_values: ['a.safetensors', 'b.safetensors', 'ties_svd'] },
      { id: 5, type: 'KSampler', widgets_values: [1, 2, 3] }
    ],
    links: [[1, 9, 0, 1, 0, 'LoRA']]
  }
  assert.deepEqual(mended(workflow), workflow)
})

test('graphs without nodes, inputs or values are left alone', () => {
  for (const workflow of [{}, { nodes: [] }, { nodes: [{ id: 1, type: SVD }] }]) {
    assert.deepEqual(mended(workflow), workflow)
  }
  const named = { nodes: [{ id: 1, type: SVD, widgets_values: { mode: 'ties_svd' } }] }
  assert.deepEqual(mended(named), named)
})

test('2024: widgets that a later front end called lora2, lora3 ... get their own names back', () => {
  const before = saved('2024_in_a_later_front_end')
  const after = mended(before)
  assert.deepEqual(inputNames(only(before, 'PM LoRA Merger')), ['lora1', 'lora2', 'lora3', 'lora4'])
  assert.deepEqual(inputNames(only(after, 'PM LoRA Merger')), ['lora1', 'mode', 'density', 'device'])
  assert.deepEqual(inputNames(only(after, SVD)), ['lora1', 'mode', 'density', 'svd_rank', 'svd_conv_rank', 'device'])
  assert.deepEqual(after.links, before.links)
})

test('2024: LoRAs between misnamed widgets are numbered in their order', () => {
  const widget = { name: 'mode' }
  const inputs = [
    { name: 'lora1', type: 'LoRA' },
    { name: 'lora2', type: 'COMBO', widget },
    { name: 'lora3', type: 'LoRA' },
    { name: 'lora4', type: 'LoRA' },
    { name: 'model', type: 'MODEL' }
  ]
  const { nodes } = mended({ nodes: [{ id: 1, type: 'PM LoRA Merger', inputs }] })
  assert.deepEqual(inputNames(nodes[0]), ['lora1', 'mode', 'lora2', 'lora3', 'model'])
})

test('2024: workflows of its own front end keep their mergers', () => {
  const before = saved('2024')
  const after = mended(before)
  for (const type of ['PM LoRA Merger', SVD, 'PM LoRA Loader', 'PM LoRA Save', 'XY: PM LoRA Strengths']) {
    assert.deepEqual(only(after, type), only(before, type))
  }
  assert.deepEqual(after.links, before.links)
})

for (const [type, values] of Object.entries({
  'XY: PM LoRA Modes': ['add, ties', 0.25, 0.75, 3, 'cpu', 'float16'],
  'XY: PM LoRA SVD Rank': ['ties_svd', 0.5, 2, 40, 5, 'cpu', 'bfloat16']
})) {
  test(`2024: ${type} keeps its linked LoRAs as overrides and gets files for its new widgets`, () => {
    const after = only(mended(saved('2024')), type)
    assert.deepEqual(inputNames(after), ['lora_a_override', 'lora_b_override'])
    assert.deepEqual(after.widgets_values, [FILES[0], FILES[0], ...values])
  })
}

test('2024: an XY node whose definition is missing still gets its values shifted', () => {
  const workflow = { nodes: [{ id: 1, type: 'XY: PM LoRA Modes', widgets_values: ['ties', 0.25, 0.75, 3] }] }
  mendWorkflow(workflow, () => undefined)
  assert.deepEqual(workflow.nodes[0].widgets_values, [undefined, undefined, 'ties', 0.25, 0.75, 3])
})

test('silveroxides: random_n_iter goes, and the randomised mode becomes the plain one', () => {
  const after = only(mended(saved('silveroxides')), SVD)
  assert.deepEqual(after.widgets_values, ['magnitude_prune_svd', 0.7, 24, 2, 'cpu', 'float16'])
  assert.ok(!inputNames(after).includes('random_n_iter'))
})

test('silveroxides: links lead to the same inputs as before, by name', () => {
  const byName = (/** @type {any} */ workflow) =>
    workflow.links.map((/** @type {any} */ [id, , , target, slot]) => {
      const { inputs } = workflow.nodes.find((/** @type {any} */ node) => node.id === target)
      return [id, inputs[slot].name, inputs[slot].link]
    })
  const workflow = saved('silveroxides')
  const before = byName(workflow)
  const after = byName(mended(workflow))
  const svd = before.filter((/** @type {any} */ [, name]) => name.startsWith('lora'))
  assert.ok(svd.length >= 8)
  for (const [id, name] of svd) {
    const [, found, link] = after.find((/** @type {any} */ each) => each[0] === id)
    assert.equal(found.replace('_override', ''), name)
    assert.equal(link, id)
  }
})

/** A merger whose random_n_iter is connected to a node of whole numbers. */
const converted = () => ({
  id: 5,
  type: SVD,
  inputs: [
    { name: 'mode', type: 'COMBO', widget: { name: 'mode' }, link: null },
    { name: 'lora1', type: 'LoRA', link: 1 },
    { name: 'random_n_iter', type: 'INT', widget: { name: 'random_n_iter' }, link: 2 },
    { name: 'lora2', type: 'LoRA', link: 3 }
  ],
  widgets_values: ['ties_random_svd', 0.5, 32, 0, 6, 'cpu', 'float16']
})
const origin = () => ({ id: 4, type: 'PrimitiveInt', outputs: [{ links: [2, 8] }, { links: null }] })

test('silveroxides: a link to random_n_iter is dropped at both ends', () => {
  const links = [
    [1, 3, 0, 5, 1, 'LoRA'],
    [2, 4, 0, 5, 2, 'INT'],
    [3, 3, 0, 5, 3, 'LoRA'],
    [8, 4, 0, 6, 2, 'INT']
  ]
  const after = mended({ nodes: [converted(), origin()], links })
  assert.deepEqual(after.links, [links[0], [3, 3, 0, 5, 2, 'LoRA'], links[3]])
  assert.deepEqual(after.nodes[1].outputs[0].links, [8])
  assert.deepEqual(inputNames(after.nodes[0]), ['mode', 'lora1', 'lora2'])
})

test('silveroxides: nodes in subgraphs, whose links are objects, are mended too', () => {
  const links = [
    { id: 1, target_id: 5, target_slot: 1 },
    { id: 2, target_id: 5, target_slot: 2 },
    { id: 3, target_id: 5, target_slot: 3 }
  ]
  const subgraph = { nodes: [converted(), origin()], links }
  const after = mended({ nodes: [], definitions: { subgraphs: [subgraph] } }).definitions.subgraphs[0]
  assert.deepEqual(after.links, [links[0], { id: 3, target_id: 5, target_slot: 2 }])
  assert.deepEqual(after.nodes[0].widgets_values, ['ties_svd', 0.5, 32, 0, 'cpu', 'float16'])
})

test('mending a mended workflow changes nothing more', () => {
  for (const name of ['2024', '2024_in_a_later_front_end', 'silveroxides']) {
    const once = mended(saved(name))
    assert.deepEqual(mended(once), once)
  }
})
