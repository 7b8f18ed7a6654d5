import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allNodes, isOurs, nodeAt, rootGraph, widgetOf } from '../../web/graph.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { app } from './stubs/app.mjs'

/** A graph whose second node is a subgraph with one node. */
function nested() {
  const graph = new FakeGraph()
  const [inner, first, second] = [new FakeGraph(), graph.add(new FakeNode()), graph.add(new FakeNode())]
  const node = inner.add(new FakeNode())
  Object.assign(second, { subgraph: inner })
  return { graph, inner, first, second, node }
}

test('an id leads through subgraphs', () => {
  const { graph, second, node } = nested()
  assert.equal(nodeAt(graph, `${second.id}:${node.id}`), node)
  assert.equal(nodeAt(graph, second.id), second)
  for (const id of ['8', `${second.id}:8`, '8:1', `${second.id}:${node.id}:1`]) assert.equal(nodeAt(graph, id), null)
})

test('the nodes of a subgraph follow the node that stands for it', () => {
  const { graph, first, second, node } = nested()
  assert.deepEqual([...allNodes(graph)], [first, second, node])
})

test("pages that keep a graph's nodes under the older name are read too", () => {
  const node = new FakeNode()
  assert.deepEqual([...allNodes({ _nodes: [node] })], [node])
})

test('pages without a name for the outermost graph show it as their graph', () => {
  const { rootGraph: before } = app
  const graph = new FakeGraph()
  try {
    Object.assign(app, { rootGraph: undefined, graph })
    assert.equal(rootGraph(), graph)
    app.rootGraph = before
    assert.equal(rootGraph(), before)
  } finally {
    Object.assign(app, { rootGraph: before, graph: undefined })
  }
})

test('a widget is found by its name, and missing widgets and nodes do not matter', () => {
  const node = new FakeNode()
  const widget = { name: 'seed' }
  node.widgets.push({ name: 'mode' }, widget)
  assert.equal(widgetOf(node, 'seed'), widget)
  assert.equal(widgetOf(node, 'density'), undefined)
  assert.equal(widgetOf({}, 'seed'), undefined)
  assert.equal(widgetOf(null, 'seed'), undefined)
})

test('our nodes are known by their names', () => {
  for (const name of ['PM LoRA Merger', 'XY: PM LoRA Modes']) assert.equal(isOurs(name), true)
  for (const name of ['KSampler', 'My PM LoRA', '', undefined]) assert.equal(isOurs(name), false)
})
