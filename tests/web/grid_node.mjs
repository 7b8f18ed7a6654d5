// A PM XY Grid in a graph, new for each test, and what its picture shows.
import { beforeEach } from 'node:test'
import { addGridView, finishGrid, growGrid } from '../../web/grid_nodes.js'
import './document.mjs'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { app } from './stubs/app.mjs'

export const LAYOUT = { left: 0.1, top: 0.1, cell_width: 0.4, cell_height: 0.4, gap_x: 0.01, gap_y: 0.01, aspect: 1 }
export const FILE = { filename: 'PM.XY_1.jpg', subfolder: '', type: 'temp' }
export const state = (more = {}) => ({
  size: [2, 2],
  columns: ['a 0', 'a 1'],
  rows: ['b 0', 'b 1'],
  done: ['1,1'],
  now: '2,1',
  seconds_left: 12,
  running: true,
  layout: LAYOUT,
  picture: FILE,
  ...more
})
export const ALL = ['1,1', '2,1', '1,2', '2,2']
export const cells = ALL.map((cell) => ({
  cell,
  merges: [{ loras: [{ name: 'a', file: 'a.safetensors', strength: 1 }], mode: 'concat' }],
  sampling: { seed: 1, steps: 2, cfg: 3 }
}))

/** @type {any} */
export let node
/** @type {any} */
export let root

class GridNode extends FakeNode {
  /**
   * @param {string} name
   * @param {string} type
   * @param {any} element
   * @param {any} options
   */
  addDOMWidget(name, type, element, options) {
    root = element
    const widget = { name, type, element, options }
    this.widgets.push(widget)
    return widget
  }
}

/**
 * A new node with a picture.
 * @param {string} type
 * @param {Record<string, any>} widgets
 */
export function show(type, widgets) {
  node = app.rootGraph.add(new GridNode(['X', 'Y'], { name: type }))
  node.type = type
  node.widgets = Object.entries(widgets).map(([name, value]) => ({ name, value }))
  addGridView(node)
}

beforeEach(() => {
  app.rootGraph = new FakeGraph()
  show('PM XY Grid', { steps: 20, pick: '', max_cells: 400 })
})

export const find = (/** @type {string} */ name) => root.querySelector(`.${name}`)
export const cell = (/** @type {string} */ place) => root.find((/** @type {any} */ one) => one.dataset.cell === place)
export const image = () => root.find((/** @type {any} */ one) => one.tag === 'img')
export const pick = () => node.widgets[1].value
export const status = () => find('pm-grid-status').textContent
/**
 * @param {any} output
 * @param {string} [workflow]
 */
export const finish = (output, workflow) => finishGrid({ node: String(node.id), workflow }, output)
/** @param {any} one */
export const send = (one) => growGrid({ node: String(node.id), ...one })
