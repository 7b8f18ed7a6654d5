// @ts-check
// Registers the pack with the page. What is done to a node is in the modules beside this one.
import { app } from '../../scripts/app.js'
import { tidy } from './growing.js'
import { mendWorkflow } from './older_packs.js'
import { offerPresets } from './presets.js'
import { makeRoomForText, showText } from './result_text.js'
import { greyOut, watchCombos } from './used_widgets.js'

/** @type {WeakSet<object>} */
const waiting = new WeakSet()

/**
 * Tidy a node once the handlers under way are done: moving a link is a disconnect and then a connect by slot index,
 * and a pasted node is connected and put into the graph only after it is configured.
 * @param {any} node
 */
function tidySoon(node) {
  if (waiting.has(node)) return
  waiting.add(node)
  queueMicrotask(() => {
    waiting.delete(node)
    if (node.graph) tidy(node)
  })
}

/**
 * Every node of a graph, those in subgraphs too.
 * @param {any} graph
 * @returns {Generator<any>}
 */
function* allNodes(graph) {
  for (const node of graph.nodes ?? graph._nodes) {
    yield node
    if (node.subgraph) yield* allNodes(node.subgraph)
  }
}

/**
 * By its id: the page translates categories and titles.
 * @param {any} nodeData a node's entry in /object_info
 */
const isOurs = (nodeData) => /^(XY: )?PM /.test(nodeData?.name ?? '')

/** @param {any} nodeData */
const growsLoras = (nodeData) => Boolean(nodeData?.input?.optional?.lora1?.[1]?.growing)

/**
 * Call something after a method of a class, whoever else has put handlers there.
 * @param {any} prototype
 * @param {string} name
 * @param {(this: any, ...args: any[]) => void} handler
 */
function after(prototype, name, handler) {
  const before = prototype[name]
  prototype[name] = function (/** @type {any[]} */ ...args) {
    const result = before?.apply(this, args)
    handler.apply(this, args)
    return result
  }
}

app.registerExtension({
  name: 'LoraPowerMerger',

  /**
   * @param {any} nodeType
   * @param {any} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!isOurs(nodeData)) return
    const grows = growsLoras(nodeData)
    // for outputs too: front end 1.26 calls an input that was disconnected from a subgraph's panel an output
    after(nodeType.prototype, 'onConnectionsChange', function () {
      if (app.configuringGraph) return
      if (grows) tidySoon(this)
      greyOut(this)
    })
    after(nodeType.prototype, 'onConfigure', function () {
      greyOut(this)
    })
    after(nodeType.prototype, 'onExecuted', function (output) {
      if (output?.text) showText(this, output.text)
    })
  },

  /** @param {any} node */
  nodeCreated(node) {
    if (!isOurs(node.constructor.nodeData)) return
    makeRoomForText(node)
    watchCombos(node)
    offerPresets(node)
  },

  /** @param {any} workflow */
  beforeConfigureGraph(workflow) {
    mendWorkflow(workflow, (type) => globalThis.LiteGraph?.registered_node_types[type]?.nodeData)
  },

  afterConfigureGraph() {
    // undo can bring back the moment between a change of links and its tidying
    for (const node of allNodes(app.rootGraph ?? app.graph)) {
      if (growsLoras(node.constructor.nodeData)) tidy(node)
    }
  }
})
