// @ts-check
// Registers the extension. The functions that change nodes are in the other modules of this folder.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { openWholePrompts } from './api_prompts.js'
import { showCachedTexts } from './cached_text.js'
import { addStyle } from './elements.js'
import { keepSeed } from './fixed_seed.js'
import { allNodes, isOurs, rootGraph } from './graph.js'
import { addGridView, endGrids, gridMenuItems, growGrid, refreshGrids, restoreGrid } from './grid_nodes.js'
import { growAtOnce, tidy } from './growing.js'
import { colourLinks } from './link_colours.js'
import { describeLora, update } from './lora_about.js'
import { forgetFacts } from './lora_facts.js'
import { menuItems } from './menu.js'
import { clearMessages, showError } from './messages.js'
import { offerModes } from './mode_list.js'
import { rankInSearch } from './node_search.js'
import { mendWorkflow } from './older_packs.js'
import { catchUp } from './other_workflows.js'
import { widenForPicture } from './picture_size.js'
import { keepPlaceholders } from './placeholders.js'
import { addRowsWidget } from './power_loader.js'
import { offerPresets } from './presets.js'
import { makeRoomForText, restoreText } from './result_text.js'
import { holdBack, receive } from './results.js'
import { begin, forget, watchQueue } from './runs.js'
import { greyOut, watchCombos } from './used_widgets.js'
import { offerValues, showValues } from './value_lists.js'

/** @type {WeakSet<object>} */
const waiting = new WeakSet()

/**
 * Tidy a node after the current handlers have finished: moving a link is a disconnect followed by a connect by slot
 * index, and a pasted node is added to the graph and connected only after it is configured.
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

/** @param {any} nodeData */
const growsLoras = (nodeData) => Boolean(nodeData?.input?.optional?.lora1?.[1]?.growing)

/**
 * Call a handler after a method of a class, on top of whatever other extensions have installed there.
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

// here, and not in setup(): before the page's own listener
api.addEventListener('executed', (/** @type {any} */ event) => holdBack(event.detail))

app.registerExtension({
  name: 'LoraPowerMerger',

  getCustomWidgets: () => ({ PM_LORA_ROWS: addRowsWidget }),

  /** The user asked for the files anew. */
  refreshComboInNodes() {
    forgetFacts()
    for (const node of allNodes(rootGraph())) void update(node)
  },

  /** @param {any} node */
  getNodeMenuItems: (node) => (isOurs(node?.constructor?.nodeData?.name) ? [...menuItems(node), ...gridMenuItems(node)] : []),

  /**
   * @param {any} nodeType
   * @param {any} nodeData
   */
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!isOurs(nodeData?.name)) return
    const grows = growsLoras(nodeData)
    // not only for inputs: front end 1.26 reports an input disconnected from a subgraph's panel as an output
    after(nodeType.prototype, 'onConnectionsChange', function (_side, _slot, connected) {
      if (app.configuringGraph) return
      if (grows) {
        if (connected && this.graph) growAtOnce(this)
        tidySoon(this)
      }
      greyOut(this)
      refreshGrids()
    })
    after(nodeType.prototype, 'onConfigure', function () {
      greyOut(this)
      showValues(this)
      restoreText(this)
      restoreGrid(this)
      void update(this)
    })
    // front ends before getNodeMenuItems
    if (!app.collectNodeMenuItems) {
      after(nodeType.prototype, 'getExtraMenuOptions', function (_, options) {
        options.unshift(...menuItems(this), ...gridMenuItems(this))
      })
    }
  },

  setup() {
    addStyle()
    colourLinks(app)
    openWholePrompts((type) => growsLoras(globalThis.LiteGraph?.registered_node_types[type]?.nodeData))
    watchQueue()
    api.addEventListener('execution_start', clearMessages)
    api.addEventListener('execution_start', (/** @type {any} */ event) => begin(event.detail))
    api.addEventListener('execution_cached', (/** @type {any} */ event) => showCachedTexts(event.detail))
    api.addEventListener('execution_error', (/** @type {any} */ event) => showError(event.detail))
    api.addEventListener('executed', (/** @type {any} */ event) => receive(event.detail))
    api.addEventListener('pm-xy-grid', (/** @type {any} */ event) => growGrid(event.detail))
    for (const end of ['execution_error', 'execution_interrupted', 'execution_success']) {
      api.addEventListener(end, endGrids)
      api.addEventListener(end, (/** @type {any} */ event) => forget(event.detail))
    }
    api.addEventListener('graphChanged', refreshGrids)
  },

  /** @param {any} node */
  nodeCreated(node) {
    if (!isOurs(node.constructor.nodeData?.name)) return
    makeRoomForText(node)
    keepPlaceholders(node)
    widenForPicture(node)
    watchCombos(node)
    offerPresets(node)
    offerModes(node)
    offerValues(node)
    keepSeed(node)
    describeLora(node)
    addGridView(node)
  },

  /** @param {any[]} defs */
  beforeRegisterVueAppNodeDefs(defs) {
    rankInSearch(defs)
  },

  /** @param {any} workflow */
  beforeConfigureGraph(workflow) {
    mendWorkflow(workflow, (type) => globalThis.LiteGraph?.registered_node_types[type]?.nodeData)
  },

  afterConfigureGraph() {
    // undo can restore the state between a link change and its tidying
    for (const node of allNodes(rootGraph())) {
      if (growsLoras(node.constructor.nodeData)) tidy(node)
    }
    catchUp()
  }
})
