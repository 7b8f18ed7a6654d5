import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { MODEL_LISTS, refreshFiles } from '../../web/new_files.js'
import { api } from './stubs/api.mjs'

const LOADER = 'PM LoRA Loader'
const FOLDER = 'PM LoRA from Folder'
const OLD = ['a.safetensors', 'c.safetensors']
const NEW = ['a.safetensors', 'b/b.safetensors', 'c.safetensors']

/**
 * @param {Record<string, any>} required
 * @param {Record<string, any>} [inputs] the page's own form
 */
const type = (required, inputs = {}) => ({ nodeData: { input: { required }, inputs } })

/** @param {Record<string, any[]>} lists */
const nodeWith = (lists) => ({ widgets: Object.entries(lists).map(([name, values]) => ({ name, options: { values } })) })

/** @param {any} node */
const listsOf = (node) => node.widgets.map((/** @type {any} */ widget) => widget.options.values)

/** @type {Record<string, any>} */
let types

/**
 * @param {string[]} files
 * @param {string[]} folders
 */
function serve(files, folders) {
  const answer = (/** @type {string} */ name, /** @type {any} */ required) => ({ [name]: { input: { required } } })
  api.answers = {
    [`/object_info/${encodeURIComponent(LOADER)}`]: answer(LOADER, { lora_name: [files, {}] }),
    [`/object_info/${encodeURIComponent(FOLDER)}`]: answer(FOLDER, { folder: [folders, {}] })
  }
}

beforeEach(() => {
  types = {
    [LOADER]: type({ lora_name: [[...OLD], {}] }, { lora_name: { options: [...OLD] } }),
    [FOLDER]: type({ folder: [['/'], {}] }, { folder: { options: ['/'] } }),
    Reroute: {}
  }
  serve(NEW, ['/', 'b'])
})

test('combos on the page get the new file and the new folder', async () => {
  const loader = nodeWith({ lora_name: [...OLD] })
  const stack = nodeWith({ lora_1: ['None', ...OLD], folder: ['/'] })
  await refreshFiles([loader, stack, {}], types)
  assert.deepEqual(listsOf(loader), [NEW])
  assert.deepEqual(listsOf(stack), [['None', ...NEW], ['/', 'b']])
})

test('definitions get them, in the form of the server and in that of the page', async () => {
  types.Core = type({ lora_name: ['COMBO', { options: [...OLD] }] })
  await refreshFiles([], types)
  const { nodeData } = types[LOADER]
  assert.deepEqual([nodeData.input.required.lora_name[0], nodeData.inputs.lora_name.options], [NEW, NEW])
  assert.deepEqual(types.Core.nodeData.input.required.lora_name[1].options, NEW)
  assert.deepEqual(types[FOLDER].nodeData.inputs.folder.options, ['/', 'b'])
})

test('lists of other things stay as they are', async () => {
  const other = { ckpt_name: [...OLD], lora_kind: ['x', 'y', ...OLD], lora_mode: ['fixed'], text: undefined }
  const node = nodeWith(/** @type {any} */ (other))
  await refreshFiles([node], types)
  assert.deepEqual(listsOf(node), Object.values(other))
})

test('the first file of an empty folder fills the empty lists of LoRAs alone', async () => {
  types[LOADER] = type({ lora_name: [[], {}] })
  const node = nodeWith({ lora_name: [], lora_1: ['None'], ckpt_name: [] })
  await refreshFiles([node], types)
  assert.deepEqual(listsOf(node), [NEW, ['None', ...NEW], []])
})

test('a file that was there already changes nothing', async () => {
  serve(OLD, ['/'])
  const values = [...OLD]
  const node = nodeWith({ lora_name: values })
  await refreshFiles([node], types)
  assert.equal(listsOf(node)[0], values)
})

test('two files after each other are both listed', async () => {
  const node = nodeWith({ lora_name: [...OLD] })
  await refreshFiles([node], types)
  serve([...NEW, 'd.safetensors'], ['/', 'b'])
  await refreshFiles([node], types)
  assert.deepEqual(listsOf(node), [[...NEW, 'd.safetensors']])
})

test('without an answer of the server the lists stay', async () => {
  api.answers = {}
  const node = nodeWith({ lora_name: OLD })
  await refreshFiles([node], types)
  assert.equal(listsOf(node)[0], OLD)
})

test('an array that several share is updated once, and stays the same array', async () => {
  const shared = ['b/b.safetensors']
  types = { [LOADER]: type({ lora_name: [shared, {}] }, { lora_name: { options: shared } }) }
  const node = nodeWith({ lora_name: shared, lora_1: shared })
  serve(['a.safetensors', 'b/b.safetensors'], ['/'])
  await refreshFiles([node], types)
  assert.deepEqual(shared, ['a.safetensors', 'b/b.safetensors'])
  assert.equal(listsOf(node)[0], shared)
})

test('a new model file is in the lists of its folder, in both forms of definitions', async () => {
  const [old, now] = [['checkpoints/a.safetensors'], ['checkpoints/a.safetensors', 'checkpoints/baked.safetensors']]
  const [oldNames, names] = [['a.safetensors'], ['a.safetensors', 'baked.safetensors']]
  const unets = ['x.safetensors']
  types = {
    'PM LoRA Bake': type({ model_file: [[...old], {}] }),
    CheckpointLoaderSimple: type({ ckpt_name: ['COMBO', { options: [...oldNames] }] }),
    UNETLoader: type({ unet_name: [[...unets], {}] })
  }
  const answer = (/** @type {string} */ name, /** @type {any} */ required) => ({ [name]: { input: { required } } })
  api.answers = {
    '/object_info/PM%20LoRA%20Bake': answer('PM LoRA Bake', { model_file: [now, {}] }),
    '/object_info/CheckpointLoaderSimple': answer('CheckpointLoaderSimple', { ckpt_name: ['COMBO', { options: names }] }),
    '/object_info/UNETLoader': answer('UNETLoader', { unet_name: [unets, {}] })
  }
  const nodes = [{ model_file: [...old] }, { tuned: [...old], base: [...old] }, { ckpt_name: [...oldNames] }]
  const others = [nodeWith({ unet_name: [...unets] }), nodeWith({ lora_name: [...oldNames] })]
  const changed = nodes.map((lists) => nodeWith(/** @type {any} */ (lists)))
  await refreshFiles([...changed, ...others], types, MODEL_LISTS)
  assert.deepEqual(changed.map(listsOf), [[now], [now, now], [names]])
  assert.deepEqual(others.map(listsOf), [[unets], [oldNames]])
  assert.deepEqual(types.CheckpointLoaderSimple.nodeData.input.required.ckpt_name[1].options, names)
})
