// @ts-check
// Finding nodes, in subgraphs too, and their widgets; which of them are ours.
import { app } from '../../scripts/app.js'

/**
 * Recognises our nodes by id, because categories and titles get translated.
 * @param {string | undefined} type the node's name in /object_info
 */
export const isOurs = (type) => /^(XY: )?PM /.test(type ?? '')

/** The workflow's outermost graph. Older pages have no name of its own for it. */
export const rootGraph = () => app.rootGraph ?? app.graph

/**
 * Every node of a graph and its subgraphs.
 * @param {any} graph
 * @returns {Generator<any>}
 */
export function* allNodes(graph) {
  for (const node of graph.nodes ?? graph._nodes) {
    yield node
    if (node.subgraph) yield* allNodes(node.subgraph)
  }
}

/**
 * The node that an id in ComfyUI's events stands for: 3, or "5:3" for node 3 in the subgraph of node 5.
 * @param {any} graph
 * @param {string | number} id
 */
export function nodeAt(graph, id) {
  let node
  for (const part of String(id).split(':')) {
    node = graph?.getNodeById(Number(part))
    graph = node?.subgraph
  }
  return node ?? null
}

/**
 * A node's widget; undefined if it has none of that name.
 * @param {any} node
 * @param {string} name
 */
export const widgetOf = (node, name) => node?.widgets?.find((/** @type {any} */ widget) => widget.name === name)
