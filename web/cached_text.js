// @ts-check
// ComfyUI sends the text of a node only when the node runs. On a page that was loaded since, a node whose result is
// cached would stay without its text: here it is taken from the history of runs.
import { isOurs, nodeAt, rootGraph } from './graph.js'
import { showAt } from './other_workflows.js'
import { lacksResult, showText } from './result_text.js'
import { read, whenKnown } from './runs.js'

const RUNS = 20 // how many runs to look back: each can be large

/** @typedef {Record<string, {class_type: string, inputs: Record<string, any>}>} Prompt */

/**
 * Fill the boxes of nodes that a run takes from the cache, where they are empty or show an error.
 * @param {{nodes: (string | number)[], prompt_id: string}} cached the detail of ComfyUI's event execution_cached
 */
export function showCachedTexts({ nodes, prompt_id }) {
  whenKnown(prompt_id, (run) => {
    /** @type {string[]} */
    const ids = []
    for (const id of nodes.map(String)) {
      if (run.nodes[id] && !isOurs(run.nodes[id].type)) continue
      showAt({ node: id, ...run }, 'cached text', (node) => {
        if (!lacksResult(node)) return
        // one look for all nodes
        if (ids.push(id) === 1) queueMicrotask(() => void fill(ids.splice(0), prompt_id))
      })
    }
  })
}

/**
 * @param {string[]} ids
 * @param {string} prompt_id
 */
async function fill(ids, prompt_id) {
  const queue = await read('/queue')
  const history = (await read(`/history?max_items=${RUNS}`)) ?? {} // afterwards: a run is in one of the two
  const running = queue?.queue_running?.find((/** @type {any[]} */ item) => item[1] === prompt_id)
  const prompt = (running ?? history[prompt_id]?.prompt)?.[2]
  if (!prompt) return
  for (const id of ids) {
    const text = lastText(Object.values(history), id, origin(prompt, id))
    const node = nodeAt(rootGraph(), id)
    if (lacksResult(node)) showText(node, text ?? []) // an error is over: the node has a result
  }
}

/**
 * What a node showed when it last ran with the same settings, of its own and of the nodes before it.
 * @param {{prompt: any[], outputs: Record<string, any>}[]} runs the oldest first
 * @param {string} id
 * @param {string} wanted
 * @returns {string[] | undefined}
 */
function lastText(runs, id, wanted) {
  const found = runs.findLast(({ prompt, outputs }) => outputs?.[id]?.text && origin(prompt[2], id) === wanted)
  return found?.outputs[id].text
}

/**
 * Everything that the result of a node depends on, as a string.
 * @param {Prompt} prompt
 * @param {string} id
 */
function origin(prompt, id) {
  /** @type {Record<string, any>} */
  const before = {}
  const collect = (/** @type {string} */ each) => {
    if (each in before) return
    before[each] = prompt[each] && [prompt[each].class_type, prompt[each].inputs]
    for (const input of Object.values(prompt[each]?.inputs ?? {})) {
      if (Array.isArray(input) && input.length === 2) collect(String(input[0]))
    }
  }
  collect(id)
  return JSON.stringify(before)
}
