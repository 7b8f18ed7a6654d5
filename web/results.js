// @ts-check
// What a run has sent for a node of ours: its text, warnings, files and pictures. It goes to the node in its own
// workflow, even if another is open (other_workflows.js).
import { allNodes, isOurs, nodeAt, rootGraph } from './graph.js'
import { finishGrid } from './grid_nodes.js'
import { forgetFacts } from './lora_facts.js'
import { showWarnings } from './messages.js'
import { LORA_LISTS, MODEL_LISTS, refreshFiles } from './new_files.js'
import { isElsewhere, showAt } from './other_workflows.js'
import { makeRoomForPicture } from './picture_size.js'
import { showText } from './result_text.js'
import { knownRun, whenKnown } from './runs.js'

/** @typedef {{node: string, display_node?: string, prompt_id: string, output: any}} Executed the detail of ComfyUI's event */

const NOWHERE = 'elsewhere' // no node has this id

/** @type {WeakMap<object, string>} the node that an event of another workflow is for */
const nodes = new WeakMap()

/** @param {Executed} detail */
const nodeOf = (detail) => nodes.get(detail) ?? String(detail.display_node || detail.node)

/**
 * Keep the page from handing a result to a node of another workflow: before it sees the event. The page finds the node
 * by `display_node`; what it stores for the other workflow goes by `node`.
 * @param {Executed} detail
 */
export function holdBack(detail) {
  const id = nodeOf(detail)
  const run = knownRun(detail.prompt_id)
  if (!run || !isElsewhere(run)) return
  const types = [run.nodes[id]?.type, nodeAt(rootGraph(), id)?.constructor.nodeData?.name]
  if (!types.some(isOurs)) return
  nodes.set(detail, id)
  detail.display_node = NOWHERE
}

/** @param {Executed} detail */
export function receive(detail) {
  const { output } = detail
  const id = nodeOf(detail)
  whenKnown(detail.prompt_id, (run) => {
    // a program's prompt may not be known, nor a node that another has made of itself
    const type = run.nodes[id]?.type ?? nodeAt(rootGraph(), id)?.constructor.nodeData?.name
    if (!output || !isOurs(type)) return
    const place = { node: id, ...run }
    if (output.text) showAt(place, 'text', (node) => showText(node, output.text, (output.saved ?? output.saved_model)?.[0]))
    if (output.warnings) showWarnings(place, run, output.warnings)
    if (output.saved) {
      forgetFacts()
      refresh(LORA_LISTS)
    }
    if (output.saved_model) refresh(MODEL_LISTS)
    finishGrid(place, output)
    if (output.picture_size) showAt(place, 'picture', (node) => makeRoomForPicture(node, output.picture_size))
  })
}

/**
 * Put files that a run wrote into the page's lists.
 * @param {import('./new_files.js').List[]} lists
 */
function refresh(lists) {
  void refreshFiles(allNodes(rootGraph()), globalThis.LiteGraph.registered_node_types, lists)
}
