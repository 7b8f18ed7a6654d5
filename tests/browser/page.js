// Helpers for the browser tests, available in the page as `pm`.
window.pm = (() => {
  const { app, LiteGraph } = window
  const root = () => app.rootGraph ?? app.graph
  const workflow = () => app.extensionManager.workflow.activeWorkflow
  const frame = () => new Promise(requestAnimationFrame)
  const linkOf = (graph, id) => graph.getLink?.(id) ?? graph._links.get(id)
  const isLora = (name) => /^lora\d+$/.test(name)
  const slotOf = (node, name) => {
    const slot = node.inputs.findIndex((each) => each.name === name)
    if (slot < 0) throw new Error(`node ${node.id} has no input ${name}`)
    return slot
  }

  /** The node with an id: 3, or "5:3" for node 3 in the subgraph of node 5. */
  function node(id) {
    const [first, ...rest] = String(id).split(':')
    let found = root().getNodeById(Number(first))
    for (const inner of rest) found = found.subgraph.getNodeById(Number(inner))
    return found
  }

  const pm = {
    node,
    frame,
    idle: () => !app.configuringGraph,

    hasSetting: (id) => id in app.ui.settings.settingsLookup,

    /** Replace the graph with a workflow, in the same tab. */
    async load(saved) {
      app.nodeOutputs = {} // pictures of earlier nodes with the same ids
      await app.loadGraphData(saved, true, true, workflow())
      app.canvas.ds.reset()
      await frame()
    },

    /** Open a workflow in a tab of its own, as dropping its file does. */
    async secondTab(saved) {
      pm.first = workflow()
      await app.loadGraphData(saved, true, true, 'second')
      pm.second = workflow()
      await frame()
    },

    /** Open the first tab again, as a click on it does. */
    async firstTab() {
      await app.loadGraphData(JSON.parse(JSON.stringify(pm.first.activeState)), true, true, pm.first)
      await frame()
    },

    async closeSecondTab() {
      if (workflow() !== pm.first) await pm.firstTab()
      await app.extensionManager.workflow.closeWorkflow(pm.second)
    },

    serialize: () => JSON.parse(JSON.stringify(root().serialize())),

    async reload() {
      await pm.load(pm.serialize())
    },

    /** The contents of a node's text boxes in Nodes 2.0. */
    drawn: (id) => [...document.querySelectorAll(`[data-node-id="${id}"] textarea`)].map(({ value }) => value),

    async prompt() {
      return (await app.graphToPrompt()).output
    },

    add(type, x, y, widgets = {}) {
      const added = LiteGraph.createNode(type)
      added.pos = [x, y]
      root().add(added)
      for (const [name, value] of Object.entries(widgets)) pm.widget(added.id, name).value = value
      return added.id
    },

    connect(from, to, input, output = 0) {
      node(from).connect(output, node(to), slotOf(node(to), input))
    },

    disconnect(id, input) {
      node(id).disconnectInput(slotOf(node(id), input))
    },

    remove(id) {
      node(id).graph.remove(node(id))
    },

    /** 0 always, 2 muted, 4 bypassed */
    setMode(id, mode) {
      node(id).mode = mode
    },

    widget: (id, name) => node(id).widgets.find((each) => each.name === name),

    firstWidget: (id) => node(id).widgets[0].name,

    /** Set a widget as a user would. */
    choose(id, name, value) {
      const widget = pm.widget(id, name)
      widget.value = value
      widget.callback?.(value, app.canvas, node(id))
    },

    /** Run the workflow. */
    queue: () => app.queuePrompt(0, 1),

    widgets: (id) => Object.fromEntries((node(id).widgets ?? []).map(({ name, value }) => [name, value])),

    /**
     * A node's LoRA inputs in order: [name, id of the origin or null], or a description of a broken link. Ids are
     * numbers in some front ends and strings in others.
     */
    loras(id) {
      const target = node(id)
      return target.inputs.flatMap((input, index) => {
        if (!isLora(input.name)) return []
        if (input.link == null) return [[input.name, null]]
        const link = linkOf(target.graph, input.link)
        if (!link) return [[input.name, 'its link is gone']]
        if (link.target_slot !== index || link.target_id != target.id) {
          return [[input.name, `its link ends at node ${link.target_id}, slot ${link.target_slot}`]]
        }
        return [[input.name, String(link.origin_id)]]
      })
    },

    /** The ids of the origins of a node's links, by input. */
    origins(id) {
      const { graph, inputs } = node(id)
      const connected = inputs.filter(({ link }) => link != null)
      return Object.fromEntries(connected.map(({ name, link }) => [name, String(linkOf(graph, link).origin_id)]))
    },

    /** The LoRA inputs that Nodes 2.0 renders on a node. */
    shown(id) {
      const slots = document.querySelectorAll(`[data-node-id="${id}"] .lg-slot--input`)
      return [...slots].map((each) => each.textContent.trim()).filter(isLora)
    },

    /** The node types in the graph that this ComfyUI doesn't have. */
    missing: () => root().nodes.map(({ type }) => type).filter((type) => !LiteGraph.registered_node_types[type]),

    /** The ids of all nodes of a type. */
    ids: (type) => root().nodes.filter((each) => each.type === type).map(({ id }) => id),

    select(ids) {
      app.canvas.deselectAll()
      for (const id of ids) app.canvas.select(node(id))
    },

    /** Copy and paste nodes; returns the ids of the new ones. */
    paste(ids, connectInputs = false) {
      const before = new Set(root().nodes.map(({ id }) => id))
      pm.select(ids)
      app.canvas.copyToClipboard()
      app.canvas.pasteFromClipboard({ connectInputs, position: [900, 300] })
      return root().nodes.map(({ id }) => id).filter((id) => !before.has(id))
    },

    /** Clone a node, like the node menu's Clone. */
    clone(id) {
      const before = new Set(root().nodes.map((each) => each.id))
      LiteGraph.LGraphCanvas.active_canvas = app.canvas // as a click would
      pm.select([id])
      LiteGraph.LGraphCanvas.onMenuNodeClone(null, null, null, null, node(id))
      return root().nodes.map((each) => each.id).filter((each) => !before.has(each))
    },

    /** Tell the page that a change is complete, which it otherwise detects from keys and clicks. */
    changed() {
      const { changeTracker } = workflow()
      // newer pages merge changes within 50 ms into one, which no user is fast enough for
      if (changeTracker.squashState) {
        changeTracker.squashState.cancel?.()
        changeTracker.squashState = () => {}
      }
      ;(changeTracker.captureCanvasState ?? changeTracker.checkState).call(changeTracker)
    },

    undo: () => workflow().changeTracker.undo(),
    redo: () => workflow().changeTracker.redo(),

    /** Convert nodes to a subgraph; returns the id of the subgraph's node. */
    toSubgraph(ids) {
      pm.select(ids)
      return root().convertToSubgraph(new Set(ids.map(node))).node.id
    },

    innerId: (id, type) => `${id}:${node(id).subgraph.nodes.find((each) => each.type === type).id}`,

    /** Insert a reroute into the link to an input. */
    reroute(id, input) {
      const { graph, inputs } = node(id)
      graph.createReroute([400, 300], linkOf(graph, inputs[slotOf(node(id), input)].link))
    },

    /** The number of reroutes on the link to an input. */
    reroutes(id, input) {
      const { graph, inputs } = node(id)
      let number = 0
      let { parentId } = linkOf(graph, inputs[slotOf(node(id), input)].link)
      for (; parentId != null; number++) ({ parentId } = graph.reroutes.get(parentId))
      return number
    },

    /** The centre of a socket on the screen. */
    socket(id, name, output = false) {
      const target = node(id)
      const slot = output ? 0 : slotOf(target, name)
      const dot = document.querySelector(`[data-slot-key="${id}-${output ? 'out' : 'in'}-${slot}"]`)
      if (dot) {
        const { x, y, width, height } = dot.getBoundingClientRect()
        return [x + width / 2, y + height / 2]
      }
      return app.canvasPosToClientPos(output ? target.getOutputPos(slot) : target.getInputPos(slot))
    },

    /** A point on a node, given as fractions of its width and height. */
    place(id, x, y) {
      const { pos, size } = node(id)
      return app.canvasPosToClientPos([pos[0] + x * size[0], pos[1] + y * size[1]])
    },

    /** What each node covers: [id, title, x, y, width, height] in pixels at scale 1, as drawn by this canvas. */
    boxes() {
      const { scale } = app.canvas.ds
      return root().nodes.map((each) => {
        const drawn = document.querySelector(`[data-node-id="${each.id}"]`)?.getBoundingClientRect()
        const [x, y, width, height] = drawn
          ? [drawn.x, drawn.y, drawn.width, drawn.height].map((value) => value / scale)
          : each.boundingRect
        return [each.id, each.title, x, y, width, height]
      })
    },

    /** A point on a node's title. */
    title(id) {
      const { pos } = node(id)
      return app.canvasPosToClientPos([pos[0] + 80, pos[1] - 15])
    },

    /** Drop a file on the canvas, as if from the desktop. */
    async drop(name, type, base64) {
      const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0))
      const dataTransfer = new DataTransfer()
      dataTransfer.items.add(new File([bytes], name, { type }))
      const at = { clientX: 800, clientY: 500, bubbles: true, cancelable: true, dataTransfer }
      app.canvasEl.dispatchEvent(new DragEvent('dragover', at))
      app.canvasEl.dispatchEvent(new DragEvent('drop', at))
    }
  }
  return pm
})()
