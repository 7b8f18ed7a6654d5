import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { describeLora, update } from '../../web/lora_about.js'
import { forgetFacts } from '../../web/lora_facts.js'
import { offerPresets } from '../../web/presets.js'
import { settled } from './document.mjs'
import { FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'

const path = (/** @type {string} */ name) => `/lora_power_merger/facts?name=${name}`

beforeEach(() => {
  forgetFacts()
  api.answers = {
    [path('a.pt')]: { summary: 'SD 1.5, rank 4', presets: ['SD-OUT'] },
    [path('b.pt')]: { error: 'b is damaged.' }
  }
})

function loader() {
  const presets = { 'SD-OUT': '1', 'FLUX-ALL': '1' }
  const nodeData = { name: 'PM LoRA Loader', input: { required: { lbw: ['STRING', { presets }] } } }
  const node = /** @type {any} */ (new FakeNode([], nodeData))
  node.addDOMWidget = (/** @type {string} */ name, /** @type {string} */ type, /** @type {any} */ made, /** @type {any} */ options) => {
    const widget = { name, type, element: made, options }
    node.widgets.push(widget)
    return widget
  }
  node.widgets = [{ name: 'lora_name', value: 'a.pt' }, { name: 'lbw', value: '' }, { name: 'on', value: true }]
  offerPresets(node)
  describeLora(node)
  return node
}

const line = (/** @type {any} */ node) => node.widgets.find((/** @type {any} */ { name }) => name === 'this LoRA is')

test('a loader says what its file is, without saving it', async () => {
  const node = loader()
  await settled()
  assert.equal(line(node).element.textContent, 'SD 1.5, rank 4')
  assert.deepEqual([line(node).serialize, line(node).options.serialize], [false, false])
  assert.ok(node.size[0] >= 340)
})

test('only presets for the recognised model are offered, all of them for an unknown one', async () => {
  const node = loader()
  await settled()
  const combo = node.widgets.find((/** @type {any} */ { name }) => name === 'lbw preset')
  assert.deepEqual(combo.options.values.slice(1), ['SD-OUT'])
  node.widgets[0].value = 'b.pt'
  node.widgets[0].callback('b.pt')
  await settled()
  assert.equal(line(node).element.textContent, 'b is damaged.')
  assert.deepEqual(combo.options.values.slice(1), ['SD-OUT', 'FLUX-ALL'])
})

test('a loader that is off says so', async () => {
  const node = loader()
  node.widgets[2].value = false
  node.widgets[2].callback(false)
  await settled()
  assert.equal(line(node).element.textContent, 'off: left out. SD 1.5, rank 4')
})

test('other nodes are left alone', async () => {
  const node = new FakeNode([], { name: 'PM LoRA Save' })
  node.widgets = [{ name: 'lora_name', value: 'a.pt' }]
  describeLora(node)
  await update(node)
  assert.equal(node.widgets.length, 1)
})
