// @ts-check
// Which workflow a run is of, and what its nodes are. ComfyUI's events name the run and a node, whose id a node of
// another workflow may have too.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'

/**
 * `workflow` is the id of its outermost graph. `tab` is the page's record of the open file, which tells two tabs with one
 * file apart. Both are unknown for a prompt that a program has queued.
 * @typedef {{workflow?: string | null, tab?: any, nodes: Record<string, {type: string, title?: string}>}} Run
 */

/** @type {Map<string, Run>} by the id of the prompt */
const runs = new Map()
/** @type {Map<string, Promise<Run>>} those that the server was asked about */
const asked = new Map()
/** @type {Set<Promise<void>>} prompts that the server hasn't given an id yet */
const queueing = new Set()
/** @type {string | null} */
let running = null

/** Note the workflow of each run that this page queues. */
export function watchQueue() {
  const queuePrompt = /** @type {any} */ (api).queuePrompt
  if (!queuePrompt) return
  /** @type {any} */ (api).queuePrompt = function (/** @type {any[]} */ ...args) {
    const run = runOf(args[1]?.output, args[1]?.workflow)
    const tab = app.extensionManager?.workflow?.activeWorkflow
    // the user may have opened another by now
    if (!tab?.activeState?.id || tab.activeState.id === run.workflow) run.tab = tab
    const answer = Promise.resolve(queuePrompt.apply(this, args))
    const noted = answer.then(
      (/** @type {any} */ given) => given?.prompt_id && runs.set(given.prompt_id, run),
      () => {} // refused: there is no run
    )
    queueing.add(noted)
    void noted.then(() => queueing.delete(noted))
    return answer
  }
}

/**
 * A run begins: find out about one that was queued before the page was loaded.
 * @param {{prompt_id: string}} detail of ComfyUI's event execution_start
 */
export function begin({ prompt_id }) {
  running = prompt_id
  whenKnown(prompt_id, () => {})
}

/** @param {{prompt_id?: string} | null} detail of ComfyUI's event for the end of a run */
export function forget(detail) {
  runs.delete(detail?.prompt_id ?? '')
  asked.delete(detail?.prompt_id ?? '')
  running = null
}

/**
 * A run; undefined if the page doesn't know it yet.
 * @param {string} [id] of the prompt, by default the one that is running
 */
export const knownRun = (id) => runs.get(id ?? running ?? '')

/**
 * Call a function with a run: at once if the page knows it, otherwise once the server has said what it is.
 * @param {string} id of the prompt
 * @param {(run: Run) => void} act
 */
export function whenKnown(id, act) {
  const run = runs.get(id)
  if (run) return act(run)
  const answer = asked.get(id) ?? ask(id)
  asked.set(id, answer)
  void answer.then(act)
}

/** @param {string} id */
async function ask(id) {
  await Promise.all(queueing)
  const run = runs.get(id) ?? (await fromServer(id))
  runs.set(id, run)
  return run
}

/** @param {string} id */
async function fromServer(id) {
  const queue = await read('/queue')
  const found = queue?.queue_running?.find((/** @type {any[]} */ item) => item[1] === id)
  const [, , prompt, extra] = found ?? (await read(`/history/${id}`))?.[id]?.prompt ?? []
  return runOf(prompt, extra?.extra_pnginfo?.workflow)
}

/**
 * @param {Record<string, any> | undefined} prompt
 * @param {{id?: string} | undefined} workflow
 * @returns {Run}
 */
function runOf(prompt, workflow) {
  const nodes = Object.entries(prompt ?? {}).map(([id, node]) => [id, { type: node.class_type, title: node._meta?.title }])
  return { workflow: workflow?.id, nodes: Object.fromEntries(nodes) }
}

/**
 * What the server knows of its runs; undefined if it doesn't answer.
 * @param {string} path "/queue", or "/history" and more
 */
export async function read(path) {
  try {
    return await (await api.fetchApi(path)).json()
  } catch {
    return undefined
  }
}
