// @ts-check
// Which nodes show a picture of their cells (grid_view.js): they get it when they are made, and it follows the workflow,
// the events of a run, and its end. ComfyUI's own picture of the node is hidden: it can't be clicked, and it would show
// the grid a second time.
import { recipeOfCell, totalOf } from './grid_cells.js'
import { GridView, SAVED } from './grid_view.js'
import { allNodes, rootGraph, widgetOf } from './graph.js'
import { endWaiting, showAt } from './other_workflows.js'
import { knownRun } from './runs.js'

/** @typedef {import('./grid_cells.js').State} State */

const TYPES = ['PM XY Grid', 'PM LoRA References', 'PM LoRA Find Strengths']
const NAME = 'grid_view'
const WIDTH = 420
// Front ends that have hideOutputImages, an option of the node.
const HIDES_PICTURES = [1, 40]

/** @type {WeakMap<object, GridView>} */
const views = new WeakMap()

/** @param {any} node */
export const isGrid = (node) => TYPES.includes(node?.constructor?.nodeData?.name)

/**
 * Add the picture to a new node. Not only when there is one: Nodes 2.0 in front end 1.32 doesn't draw widgets that are
 * added after the first link.
 * @param {any} node
 */
export function addGridView(node) {
  if (!isGrid(node)) return
  const view = new GridView(node)
  views.set(node, view)
  view.widget = node.addDOMWidget(NAME, 'PM_XY_GRID', view.root, {
    getMinHeight: () => view.height,
    margin: 5,
    hideOnZoom: false,
    serialize: false
  })
  view.widget.serialize = false
  hidePictures(node)
  const pick = widgetOf(node, 'pick')
  if (pick) {
    const before = pick.callback
    pick.callback = function (/** @type {any[]} */ ...args) {
      const result = before?.apply(this, args)
      view.render()
      return result
    }
  }
  node.setSize([Math.max(node.size[0], WIDTH), node.size[1]])
  view.render()
}

/**
 * Keep the page from drawing the node's pictures itself.
 * @param {any} node
 */
function hidePictures(node) {
  node.hideOutputImages = true
  // the classic canvas draws what it finds here
  Object.defineProperty(node, 'imgs', { get: () => undefined, set: () => {}, configurable: true })
}

/**
 * A workflow was opened, or the node pasted: show the grid of its last run.
 * @param {any} node
 */
export function restoreGrid(node) {
  const view = views.get(node)
  if (!view) return
  const saved = node.properties?.[SAVED]
  view.fitted = 0 // a workflow saved by an earlier version has a node that is too small
  view.show(saved && Array.isArray(saved.size) ? saved : null, false)
}

/**
 * A run is finished.
 * @param {import('./other_workflows.js').Place} place
 * @param {any} output what the node sent
 */
export function finishGrid(place, output) {
  const state = output?.xy_grid?.[0]
  if (!state) return
  const finished = { ...state, picture: output.images?.[0] }
  showAt(place, 'grid', (node) => views.get(node)?.keep(finished))
  hideOldPictures(output)
}

/**
 * Keep an older page from drawing the picture of a run.
 * @param {any} output
 */
function hideOldPictures(output) {
  const version = String(/** @type {any} */ (globalThis).__COMFYUI_FRONTEND_VERSION__ ?? '').split('.').map(Number)
  const hides = version[0] > HIDES_PICTURES[0] || version[1] >= HIDES_PICTURES[1]
  if (!hides) delete output.images
}

/**
 * A cell of a running grid begins or is finished, or the run was stopped.
 * @param {State & import('./other_workflows.js').Place} state the detail of the event pm-xy-grid
 */
export function growGrid(state) {
  const { node, workflow } = state
  const run = knownRun()
  const place = { node, workflow, tab: run?.workflow === workflow ? run?.tab : null }
  const running = Boolean(state.running) || state.done.length >= totalOf(state)
  showAt(place, 'grid', (found, still) => views.get(found)?.keep(state, still), running)
}

/** Show on every grid how many cells it would sample now. */
export function refreshGrids() {
  for (const node of allNodes(rootGraph())) views.get(node)?.renderStatus()
}

/** A run has ended, in whatever way. */
export function endGrids() {
  for (const node of allNodes(rootGraph())) views.get(node)?.end()
  endWaiting()
}

/**
 * Entries for the right-click menu: the picked cell's settings and nodes.
 * @param {any} node
 */
export function gridMenuItems(node) {
  const view = views.get(node)
  const cell = view?.pickedCell()
  if (!view || !cell) return []
  return [
    { content: "Copy the picked cell's settings", callback: () => void view.copySettings() },
    ...(recipeOfCell(cell) ? [{ content: "Make the picked cell's nodes", callback: () => void view.makeNodes() }] : [])
  ]
}
