import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planOf, recipeOf, sentenceOf } from '../../web/recipe_nodes.js'

const file = (/** @type {string} */ name, more = {}) => ({
  name,
  file: `${name}.safetensors`,
  sha256: 'x',
  size: 1,
  strength_model: 1,
  strength_clip: 1,
  ...more
})
const MERGE = {
  version: '1.0.0',
  operation: 'merge',
  mode: 'ties',
  density: 0.5,
  dtype: 'float32',
  inputs: [file('a', { strength_model: 0.5, block_weights: ['1,0,0'] }), file('sub/b')]
}
const FILES = ['a.safetensors', 'sub\\b.safetensors']

/**
 * @param {import('../../web/recipe_nodes.js').Plan} plan
 * @param {string} type
 */
const ofType = (plan, type) => plan.nodes.filter((node) => node.type === type)

test('a merge becomes loaders, the merger and a save node, with their settings', () => {
  const plan = planOf({ ...MERGE, save_dtype: 'float16', names: 'peft' }, FILES, 'merged_again')
  const [a, b] = ofType(plan, 'PM LoRA Loader')
  assert.deepEqual(a.widgets, { lora_name: 'a.safetensors', strength_model: 0.5, strength_clip: 1, lbw: '1,0,0' })
  assert.equal(b.widgets.lora_name, 'sub\\b.safetensors')
  const [merger] = ofType(plan, 'PM LoRA Merger')
  assert.deepEqual(merger.widgets, { mode: 'ties', density: 0.5, dtype: 'float32' })
  const [save] = ofType(plan, 'PM LoRA Save')
  assert.deepEqual(save.widgets, { file_name: 'merged_again', save_dtype: 'float16', save_format: 'PEFT / diffusers' })
  assert.deepEqual(plan.links, [
    { from: a.key, to: merger.key, input: 'lora1' },
    { from: b.key, to: merger.key, input: 'lora2' },
    { from: merger.key, to: save.key, input: 'lora' }
  ])
  assert.ok(a.column < merger.column && merger.column < save.column)
  assert.deepEqual(plan.notes, [])
})

test('ranks go to the widgets of their node', () => {
  const svd = { operation: 'merge_svd', mode: 'add_svd', rank: 8, conv_rank: 4, dtype: 'float16', inputs: [file('a')] }
  const [merger] = ofType(planOf(svd, FILES, 'x'), 'PM LoRA SVD Merger')
  assert.deepEqual(merger.widgets, { mode: 'add_svd', svd_rank: 8, svd_conv_rank: 4, dtype: 'float16' })
  const resize = { operation: 'resize', rank: 8, conv_rank: 0, method: 'sv_fro', value: 0.9, inputs: [file('a')] }
  const plan = planOf(resize, FILES, 'x')
  assert.deepEqual(ofType(plan, 'PM LoRA Resizer')[0].widgets, {
    new_rank: 8,
    conv_rank: 0,
    method: 'sv_fro',
    method_value: 0.9
  })
  assert.equal(plan.links[0].input, 'lora')
})

test('a merge of a merge has both, with its strength, and a shared step only once', () => {
  const inner = { ...MERGE, inputs: [file('a')] }
  const outer = {
    operation: 'merge',
    mode: 'concat',
    steps: [inner],
    inputs: [{ name: 'm', made: 0, strength_model: 0.5, strength_clip: 1 }, { name: 'm', made: 0 }]
  }
  const plan = planOf(outer, FILES, 'x')
  assert.equal(ofType(plan, 'PM LoRA Merger').length, 2)
  assert.equal(ofType(plan, 'PM LoRA Loader').length, 1)
  assert.deepEqual(ofType(plan, 'PM LoRA Strength')[0].widgets, { strength_model: 0.5, strength_clip: 1 })
})

test('a file that is gone is loaded from its own recipe, or said', () => {
  const gone = { operation: 'merge', mode: 'concat', inputs: [file('gone', { made: MERGE }), file('lost')] }
  const plan = planOf(gone, FILES, 'x')
  assert.equal(ofType(plan, 'PM LoRA Merger').length, 2)
  assert.deepEqual(plan.notes, ["lost.safetensors is not in ComfyUI's loras folders."])
  const there = planOf({ ...gone, inputs: [file('a', { made: MERGE })] }, FILES, 'x')
  assert.equal(ofType(there, 'PM LoRA Merger').length, 1)
})

test('a saved file without a merge is a loader and a save node', () => {
  const plan = planOf({ operation: 'load', inputs: [file('a', { strength_clip: 0.5 })] }, FILES, 'x')
  assert.deepEqual(plan.nodes.map(({ type }) => type), ['PM LoRA Loader', 'PM LoRA Save'])
})

test('what a model decided is a note', () => {
  const plan = planOf({ ...MERGE, architecture: 'Flux', inputs: [file('a', { from_model_weights: true })] }, FILES, 'x')
  assert.equal(plan.notes.length, 2)
  assert.ok(plan.notes.some((note) => note.includes('(Flux)')))
})

test("recipes that can't be laid out say why", () => {
  assert.throws(() => planOf({ operation: 'bake', inputs: [] }, [], 'x'), /no node here for the operation "bake"/)
  assert.throws(() => planOf({ operation: 'merge', inputs: [{ name: 'm' }] }, [], 'x'), /how m was made/)
  assert.throws(() => planOf({ operation: 'load', inputs: [] }, [], 'x'), /damaged/)
  let deep = /** @type {any} */ ({ operation: 'merge', inputs: [file('a')] })
  for (let n = 0; n < 200; n++) deep = { operation: 'merge', inputs: [{ made: deep }] }
  assert.throws(() => planOf(deep, FILES, 'x'), /too deeply/)
})

test('only texts that are recipes are recipes', () => {
  for (const text of ['', '{', '[]', '{}', '{"operation": "merge"}', 'null']) assert.equal(recipeOf(text), null)
  assert.deepEqual(recipeOf(JSON.stringify(MERGE)), MERGE)
  assert.equal(sentenceOf(MERGE), 'merge, ties: a x 0.5 / 1, sub/b')
})

test("a method's parameters become a node with options", () => {
  const merge = { ...MERGE, mode: 'np_svd', operation: 'merge_svd', parameters: { np_mu: 0.3 } }
  const plan = planOf(merge, FILES, 'x')
  const [options] = ofType(plan, 'PM LoRA Merge Options')
  assert.deepEqual(options.widgets, { mode: 'np_svd', np_mu: 0.3 })
  const [merger] = ofType(plan, 'PM LoRA SVD Merger')
  assert.ok(!('parameters' in merger.widgets))
  assert.deepEqual(plan.links.at(-2), { from: options.key, to: merger.key, input: 'options' })
})
