// @ts-check
// What stands in an empty text box, on both canvases. Nodes 2.0 draws a box of its own for a text widget and gives it no
// placeholder of ours: front end 1.32 shows the widget's name, 1.49 nothing. But it binds the widget's options to the box,
// Vue's hooks among them, and so we learn of each box.

/** @type {WeakMap<object, Set<any>>} the boxes that Nodes 2.0 shows for a widget now: also one in a side panel */
const boxes = new WeakMap()

/**
 * Show the placeholders of a new node's text boxes in Nodes 2.0 too.
 * @param {any} node
 */
export function keepPlaceholders(node) {
  for (const widget of node.widgets ?? []) {
    const { element, options } = widget
    if (!options || !element?.placeholder || element.placeholder === widget.name) continue
    const shown = new Set()
    boxes.set(widget, shown)
    options.onVnodeMounted = (/** @type {any} */ { el }) => {
      shown.add(el)
      el.placeholder = element.placeholder
    }
    options.onVnodeBeforeUnmount = (/** @type {any} */ { el }) => shown.delete(el)
  }
}

/**
 * Change the placeholder of a text widget.
 * @param {any} widget
 * @param {string} text
 */
export function setPlaceholder(widget, text) {
  for (const box of [widget.element, ...(boxes.get(widget) ?? [])]) {
    if (box) box.placeholder = text
  }
}
