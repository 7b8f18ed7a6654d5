// @ts-check
// Results are saved with the workflow, in the nodes' properties, and the page's undo history holds whole workflows. A
// result isn't an edit: it is written into every workflow of the history, so that the first undo after a run takes back
// the last edit and leaves the result where it is.
import { app } from '../../scripts/app.js'
import { rootGraph } from './graph.js'

const RESIZED = 300 // milliseconds until Nodes 2.0 has given a node the size of its result

/** @typedef {{size: number[], names: Set<string>}} Change a node's size before it, and the properties that it sets */

/** @type {Map<any, Change>} */
const changes = new Map()
/** @type {any} */
let timer

/**
 * Call before a result is shown.
 * @param {any} node
 * @param {string} [name] of the property that keeps the result; none if it only changes the node's size
 */
export function resultComes(node, name) {
  const change = changes.get(node) ?? { size: [...node.size], names: new Set() }
  if (name) change.names.add(name)
  changes.set(node, change)
  queueMicrotask(rewrite)
  clearTimeout(timer)
  timer = setTimeout(() => {
    rewrite()
    changes.clear()
  }, RESIZED)
}

/** Write the results into the history of the open workflow. */
function rewrite() {
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
  if (!tracker?.activeState) return
  // the saved workflow keeps what it had, so that the page knows of something to save
  if (tracker.activeState === tracker.initialState) tracker.activeState = copyOf(tracker.activeState)
  const states = new Set([tracker.activeState, ...(tracker.undoQueue ?? []), ...(tracker.redoQueue ?? [])])
  for (const [node, { size, names }] of changes) {
    const results = Object.fromEntries([...names].map((name) => [name, copyOf(node.properties[name])]))
    const resized = node.size[0] !== size[0] || node.size[1] !== size[1]
    for (const state of states) write(state, node, results, resized)
  }
  tracker.updateModified?.()
}

/**
 * @param {any} state a saved workflow
 * @param {any} node
 * @param {Record<string, any>} results
 * @param {boolean} resized
 */
function write(state, node, results, resized) {
  // newer pages have text for ids, and save numbers
  const isSame = (/** @type {any} */ one) => String(one.id) === String(node.id) && one.type === node.type
  const saved = nodesBeside(state, node).find(isSame)
  if (!saved) return
  saved.properties = { ...saved.properties, ...results }
  if (resized && saved.size) for (const side of [0, 1]) saved.size[side] = node.size[side]
}

/**
 * The nodes of the graph that a node is in, in a saved workflow.
 * @param {any} state
 * @param {any} node
 * @returns {any[]}
 */
function nodesBeside(state, node) {
  if (!node.graph || node.graph === rootGraph()) return state.nodes ?? []
  const subgraphs = state.definitions?.subgraphs ?? []
  return subgraphs.find((/** @type {any} */ one) => one.id === node.graph.id)?.nodes ?? []
}

/** @param {any} value plain JSON; the page's own values may be proxies, which structuredClone refuses */
const copyOf = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)))
