// @ts-check
// Grids of workflows that aren't open. ComfyUI's events name a node by its id, which a node of another workflow may have
// too, so a grid's state names its workflow as well. One for a workflow that isn't open waits until it is opened again.
import { rootGraph } from './graph.js'

/**
 * `workflow` is the id of its outermost graph; none for a prompt that no page has queued.
 * @typedef {{node: string, workflow?: string | null}} Place
 */

/** @type {Map<string, {state: any, running: boolean}>} the latest state of each node, by its workflow and its id */
const waiting = new Map()
/** @type {Set<string>} the nodes whose output this run takes from the cache, whatever workflow it was made in */
let cached = new Set()

/**
 * Whether a state is of a workflow that isn't open. Older pages give their graphs no ids: there it isn't known.
 * @param {Partial<Place>} state
 */
export const isElsewhere = ({ workflow }) => Boolean(workflow && rootGraph().id && workflow !== rootGraph().id)

/** @param {{nodes: (string | number)[]}} detail of ComfyUI's event execution_cached */
export function noteCached({ nodes }) {
  cached = new Set(nodes.map(String))
}

/** The ids of the nodes whose output this run takes from the cache. */
export const cachedNodes = () => cached

/**
 * Keep a state until its workflow is opened.
 * @param {Place} state
 * @param {boolean} running
 */
export function wait(state, running) {
  waiting.set(`${state.workflow} ${state.node}`, { state, running })
}

/** The run has ended for those that wait too. */
export function endWaiting() {
  for (const one of waiting.values()) one.running = false
}

/** The states of the workflow that has been opened; they wait no longer. */
export function takeWaiting() {
  const found = [...waiting].filter(([, { state }]) => !isElsewhere(state))
  for (const [key] of found) waiting.delete(key)
  return found.map(([, one]) => one)
}
