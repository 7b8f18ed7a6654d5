// Small stand-ins for LiteGraph's graph and nodes, with the methods that web/ calls and no others.

const HEADER = 30
const ROW = 20

export class FakeGraph {
  constructor() {
    /** @type {FakeNode[]} */
    this.nodes = []
    /** @type {Map<number, any>} */
    this.links = new Map()
    /** @type {[string, any][]} what was triggered */
    this.triggered = []
    this.nextLink = 1
    /** The panel of a subgraph's own inputs, as origin of links. */
    this.inputs = [0, 1, 2].map((slot) => ({
      connect: (/** @type {any} */ input, /** @type {FakeNode} */ node, /** @type {any} */ parentId) =>
        this.link({ origin_id: -10, origin_slot: slot, parentId }, node, node.inputs.indexOf(input))
    }))
  }

  /** @param {FakeNode} node */
  add(node) {
    node.id = this.nodes.push(node)
    node.graph = this
    return node
  }

  /** @param {number} id */
  getNodeById(id) {
    return this.nodes.find((node) => node.id === id) ?? null
  }

  /** @type {(event: string, detail: any) => void} */
  trigger = (event, detail) => this.triggered.push([event, detail])

  /**
   * @param {any} from
   * @param {FakeNode} node
   * @param {number} slot
   */
  link(from, node, slot) {
    node.disconnectInput(slot)
    const id = this.nextLink++
    this.links.set(id, { id, ...from })
    node.inputs[slot].link = id
  }
}

export class FakeNode {
  /**
   * @param {string[]} inputs names of the inputs
   * @param {any} nodeData its entry in /object_info
   */
  constructor(inputs = [], nodeData = {}) {
    /** @type {any} */
    this.graph = null
    this.id = 0
    /** @type {any[]} */
    this.inputs = inputs.map((name) => ({ name, type: name.startsWith('lora') ? 'LoRA' : '*', link: null }))
    /** @type {any[]} */
    this.widgets = []
    /** @type {any} */
    this.properties = undefined
    this.title = 'A node'
    this.size = [200, this.computeSize()[1]]
    this.dirty = 0
    Object.defineProperty(this, 'constructor', { value: { nodeData } })
  }

  computeSize() {
    return [150, HEADER + ROW * (this.inputs.length + this.widgets.length)]
  }

  /** @param {number[]} size */
  setSize(size) {
    this.size = size
  }

  setDirtyCanvas() {
    this.dirty += 1
  }

  /**
   * @param {string} name
   * @param {string} type
   */
  addInput(name, type) {
    this.inputs.push({ name, type, link: null })
  }

  /** @param {number} index */
  removeInput(index) {
    this.disconnectInput(index)
    this.inputs.splice(index, 1)
  }

  /** @param {number} index */
  isInputConnected(index) {
    return this.inputs[index].link !== null
  }

  /** @param {number} index */
  getInputLink(index) {
    return this.graph.links.get(this.inputs[index].link) ?? null
  }

  /** @param {number} index */
  disconnectInput(index) {
    this.graph.links.delete(this.inputs[index].link)
    this.inputs[index].link = null
  }

  /**
   * @param {number} slot
   * @param {FakeNode} target
   * @param {number} index
   * @param {number} [parentId] the reroute that the link goes through
   */
  connect(slot, target, index, parentId) {
    this.graph.link({ origin_id: this.id, origin_slot: slot, parentId }, target, index)
  }

  /**
   * @param {string} type
   * @param {string} name
   * @param {any} value
   * @param {(value: any) => void} callback
   * @param {any} options
   */
  addWidget(type, name, value, callback, options) {
    const widget = { type, name, value, callback, options }
    this.widgets.push(widget)
    return widget
  }
}
