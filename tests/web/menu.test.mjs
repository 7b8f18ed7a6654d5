import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { filesOf, menuItems, place } from '../../web/menu.js'
import { document, settled } from './document.mjs'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

/** @type {any[]} */
let toasts

beforeEach(() => {
  toasts = []
  app.extensionManager = { toast: { add: (/** @type {any} */ message) => toasts.push(message) } }
  api.answers = { '/models/loras': ['a.safetensors'] }
})

/** @param {Record<string, any>} values */
function nodeWith(values) {
  const node = new FakeNode()
  node.widgets = Object.entries(values).map(([name, value]) => ({ name, value }))
  return node
}

test('the files of a node are those of its file widgets, its rows, and what it saved', () => {
  assert.deepEqual(filesOf(nodeWith({ lora_name: 'a.safetensors', strength_model: 1, lbw: 'x.pt' })), ['a.safetensors'])
  assert.deepEqual(filesOf(nodeWith({ lora_1: 'a.pt', lora_2: 'None', lora_a: 'b.pt' })), ['a.pt', 'b.pt'])
  assert.deepEqual(filesOf(nodeWith({ rows: '[{"lora": "a.pt"}, {"lora": "a.pt"}]' })), ['a.pt'])
  assert.deepEqual(filesOf(nodeWith({ result: '/models/loras/a.safetensors\na note' })), ['/models/loras/a.safetensors'])
  assert.deepEqual(filesOf(nodeWith({ result: '84 modules', rows: '{' })), [])
  assert.deepEqual(menuItems(nodeWith({})), [])
})

test('one file has three entries, several have submenus', () => {
  const one = menuItems(nodeWith({ lora_name: 'a.pt' }))
  assert.equal(one.length, 3)
  assert.ok(one.every(({ content, callback }) => content && callback))
  const [first] = menuItems(nodeWith({ lora_1: 'sub/a.pt', lora_2: 'b.pt' }))
  assert.deepEqual(first.submenu.options.map((/** @type {any} */ option) => option.content), ['a', 'b'])
})

test('what cannot be done is told', async () => {
  api.answers['/lora_power_merger/facts?details=1&name=a.safetensors'] = { recipe: '' }
  const [, copy] = menuItems(nodeWith({ result: '/x/loras/a.safetensors' }))
  copy.callback()
  await settled()
  assert.match(toasts[0].detail, /a has no recipe/)
  assert.equal(document.body.children.length, 0)
})

test('planned nodes are placed in columns and connected, inputs that grow too', async () => {
  const graph = new FakeGraph()
  globalThis.LiteGraph = /** @type {any} */ ({
    createNode: (/** @type {string} */ type) => {
      const node = /** @type {any} */ (new FakeNode(type === 'merger' ? ['lora1'] : []))
      // as the page does: to the decimals that the widget shows
      const callback = function (/** @type {number} */ value) {
        this.value = Math.round(value * 100) / 100
      }
      node.widgets = [{ name: 'strength', value: 1, callback }]
      return node
    }
  })
  const nodes = ['a', 'b', 'm'].map((key) => ({
    key,
    type: key === 'm' ? 'merger' : 'loader',
    column: key === 'm' ? 0 : -1,
    widgets: key === 'a' ? { strength: 0.125, unknown: 1 } : {}
  }))
  const links = ['a', 'b'].map((from, index) => ({ from, to: 'm', input: `lora${index + 1}` }))
  await place({ nodes, links, notes: [] }, [100, 200], graph)
  const [a, b, merger] = /** @type {any[]} */ (graph.nodes)
  assert.equal(a.widgets[0].value, 0.125)
  assert.equal(a.pos[0], 100)
  assert.ok(b.pos[1] >= a.pos[1] + a.size[1] && merger.pos[0] > a.pos[0])
  assert.deepEqual(merger.inputs.map((/** @type {any} */ input) => graph.links.get(input.link).origin_id), [1, 2])
})

test('a wide node does not reach into the next column, and each has its place before it is in the graph', async () => {
  const graph = new FakeGraph()
  const added = /** @type {any[]} */ ([])
  const add = graph.add.bind(graph)
  graph.add = (/** @type {any} */ node) => (added.push([...node.pos]), add(node))
  globalThis.LiteGraph = /** @type {any} */ ({
    createNode: () => Object.assign(new FakeNode(), { pos: [10, 10], size: [900, 100] })
  })
  const nodes = [-1, 0].map((column) => ({ key: String(column), type: 'wide', column, widgets: {} }))
  await place({ nodes, links: [], notes: [] }, [100, 200], graph)
  assert.equal(added[0][0], 100)
  assert.ok(added[1][0] > 1000)
})
