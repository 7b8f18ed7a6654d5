// @ts-check
// Fixes workflows saved with the older Power-Merger packs before the front end loads them. Most need no fix: widget
// values are saved by position, and our new widgets come after the old ones.

/** @typedef {{name: string, type?: unknown, link?: number | null, widget?: {name: string}}} SavedInput */
/** @typedef {{id: number | string, type: string, inputs?: SavedInput[], widgets_values?: any}} SavedNode */
/** @typedef {any[] | {id: number, target_id: number | string, target_slot: number}} SavedLink */
/** @typedef {{nodes?: SavedNode[], links?: SavedLink[], definitions?: {subgraphs?: SavedGraph[]}}} SavedGraph */
/** @typedef {(type: string) => any} NodeData looks up a node type in /object_info */

/** @type {Record<string, (node: SavedNode, graph: SavedGraph, nodeData: NodeData) => void>} */
const FIXES = {
  'PM LoRA Merger': fixNames,
  'PM LoRA SVD Merger': fixSvdMerger,
  'XY: PM LoRA Modes': fixLinkedLoras,
  'XY: PM LoRA SVD Rank': fixLinkedLoras
}

/**
 * Fix a saved workflow in place. Workflows saved with this pack stay unchanged.
 * @param {SavedGraph} workflow
 * @param {NodeData} nodeData
 */
export function mendWorkflow(workflow, nodeData) {
  for (const graph of [workflow, ...(workflow.definitions?.subgraphs ?? [])]) {
    for (const node of graph.nodes ?? []) FIXES[node.type]?.(node, graph, nodeData)
  }
}

/**
 * In front ends that list widgets among the inputs, the 2024 pack renamed those to lora1, lora2, ... as well.
 * @param {SavedNode} node
 */
function fixNames(node) {
  if (!node.inputs?.some(({ name, widget }) => widget && widget.name !== name)) return
  let number = 0
  for (const input of node.inputs) {
    if (input.widget) input.name = input.widget.name
    else if (input.type === 'LoRA') input.name = `lora${++number}`
  }
}

/**
 * The silveroxides fork has random_n_iter between svd_conv_rank and device, and modes with a randomised SVD.
 * @param {SavedNode} node
 * @param {SavedGraph} graph
 */
function fixSvdMerger(node, graph) {
  fixNames(node)
  const values = node.widgets_values
  if (!Array.isArray(values)) return
  if (typeof values[0] === 'string') values[0] = values[0].replace(/_random_svd$/, '_svd')
  // in ours this is the device, a string
  if (typeof values[4] === 'number') values.splice(4, 1)
  dropInput(node, 'random_n_iter', graph)
}

/**
 * Modes and SVD Rank used to take their LoRAs only from links and had no file widgets.
 * @param {SavedNode} node
 * @param {SavedGraph} graph
 * @param {NodeData} nodeData
 */
function fixLinkedLoras(node, graph, nodeData) {
  const values = node.widgets_values
  // ours start with two file names
  if (!Array.isArray(values) || typeof values[1] !== 'number') return
  for (const name of ['lora_a', 'lora_b']) {
    const input = node.inputs?.find((input) => input.name === name)
    if (input) input.name = `${name}_override`
  }
  // The server insists on existing files, even though the linked LoRAs override them.
  const files = nodeData(node.type)?.input.required.lora_a[0] ?? []
  values.unshift(files[0], files[0])
}

/**
 * @param {SavedNode} node
 * @param {string} name
 * @param {SavedGraph} graph
 */
function dropInput(node, name, graph) {
  const index = node.inputs?.findIndex((input) => input.name === name) ?? -1
  if (index < 0 || !node.inputs) return
  const [dropped] = node.inputs.splice(index, 1)
  const links = graph.links ?? []
  for (const link of links) {
    if (linkTarget(link) !== node.id) continue
    // in the main graph a link is an array: id, origin, its slot, target, its slot, type
    if (Array.isArray(link)) link[4] -= link[4] > index ? 1 : 0
    else link.target_slot -= link.target_slot > index ? 1 : 0
  }
  if (dropped.link == null) return
  graph.links = links.filter((link) => (Array.isArray(link) ? link[0] : link.id) !== dropped.link)
  for (const { outputs } of /** @type {any[]} */ (graph.nodes)) {
    for (const output of outputs ?? []) {
      output.links = output.links?.filter((/** @type {number} */ id) => id !== dropped.link)
    }
  }
}

/** @param {SavedLink} link */
const linkTarget = (link) => (Array.isArray(link) ? link[3] : link.target_id)
