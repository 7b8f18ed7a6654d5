// @ts-check
// Results of workflows that aren't open. ComfyUI hands them to the node that has the same id in the open one, so ours
// wait here until their own workflow is opened again.
import { app } from '../../scripts/app.js'
import { nodeAt, rootGraph } from './graph.js'

const AGAIN = 250 // milliseconds

/**
 * `workflow` is the id of its outermost graph, `tab` the page's record of the open file; unknown for a prompt that no
 * page has queued.
 * @typedef {{node: string, workflow?: string | null, tab?: any}} Place
 */
/** @typedef {(node: any, running: boolean) => void} Show */

/** @type {Map<string, {place: Place, show: Show, running: boolean}>} */
let waiting = new Map()
/** @type {any} */
let timer

/**
 * Whether something is of a workflow that isn't open. Older pages give their graphs no ids: there it isn't known.
 * @param {Partial<Place>} place
 */
export function isElsewhere({ workflow, tab }) {
  return Boolean(workflow && rootGraph().id && workflow !== rootGraph().id) || isOtherTab(tab)
}

/**
 * Whether a tab is open but isn't in front. The path tells tabs apart; the page's records may be proxies of each other.
 * @param {any} tab
 */
function isOtherTab(tab) {
  const { activeWorkflow: front, openWorkflows = [] } = app.extensionManager?.workflow ?? {}
  if (!tab || !front || tab.path === front.path) return false
  return openWorkflows.some((/** @type {any} */ one) => one?.path === tab.path)
}

/**
 * Show something on a node: now, or when its workflow is opened again.
 * @param {Place} place
 * @param {string} kind what it is; the latest of a kind counts
 * @param {Show} show
 * @param {boolean} [running] whether it changes when the run ends
 */
export function showAt(place, kind, show, running = false) {
  const key = [place.workflow, place.tab?.path, place.node, kind].join(' ')
  waiting.delete(key)
  if (isElsewhere(place)) waiting.set(key, { place, show, running })
  else showNow({ place, show, running })
}

/** @param {{place: Place, show: Show, running: boolean}} one */
function showNow({ place, show, running }) {
  const node = nodeAt(rootGraph(), place.node)
  if (node) show(node, running)
}

/** The run has ended for those that wait too. */
export function endWaiting() {
  for (const one of waiting.values()) one.running = false
}

/** A workflow was opened: show what has come for it in the meantime. */
export function catchUp() {
  clearTimeout(timer)
  const all = waiting
  waiting = new Map()
  for (const [key, one] of all) {
    if (isElsewhere(one.place)) waiting.set(key, one)
    else showNow(one)
  }
  // the page puts a tab in front after it has opened its workflow
  const soon = [...waiting.values()].some(({ place }) => place.workflow === rootGraph().id)
  if (soon) timer = setTimeout(catchUp, AGAIN)
}
