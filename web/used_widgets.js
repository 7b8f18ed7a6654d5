// @ts-check
// Greys out or hides the widgets that the chosen mode ignores. The server says which ones: the `uses` option of a combo
// maps a widget to the choices that use it, and with its option `hides` the others disappear.
import { widgetOf } from './graph.js'

/**
 * The combos of a node that have a `uses` option.
 * @param {any} nodeData the node's entry in /object_info
 * @returns {[combo: string, uses: Record<string, string[]>, hides: boolean][]}
 */
function combosWithUses(nodeData) {
  const inputs = { ...nodeData?.input?.required, ...nodeData?.input?.optional }
  return Object.entries(inputs).flatMap(([name, [, options]]) => (options?.uses ? [[name, options.uses, Boolean(options.hides)]] : []))
}

/**
 * Grey out the widgets that the current choices ignore. One that several combos know is usable if any of them uses it;
 * if a combo's value comes from a link, all of its widgets are.
 * @param {any} node
 */
export function greyOut(node) {
  /** @type {Map<string, {used: boolean, hides: boolean}>} */
  const widgets = new Map()
  for (const [name, uses, hides] of combosWithUses(node.constructor.nodeData)) {
    const combo = widgetOf(node, name)
    if (!combo) continue
    const slot = (node.inputs ?? []).findIndex((/** @type {any} */ input) => input.widget?.name === name)
    const linked = slot >= 0 && node.isInputConnected(slot)
    for (const [other, choices] of Object.entries(uses)) {
      const before = widgets.get(other)
      const used = Boolean(before?.used) || linked || choices.includes(combo.value)
      widgets.set(other, { used, hides: Boolean(before?.hides) || hides })
    }
  }
  let changed = false
  for (const [name, { used, hides }] of widgets) {
    const widget = widgetOf(node, name)
    if (!widget) continue
    widget.disabled = !used
    if (hides) changed = hide(node, widget, !used) || changed
  }
  if (changed) fit(node)
  node.setDirtyCanvas?.(true, true)
}

/**
 * Update a new node's widgets now and whenever one of its combos changes.
 * @param {any} node
 */
export function watchCombos(node) {
  for (const [name] of combosWithUses(node.constructor.nodeData)) onChoice(widgetOf(node, name), () => greyOut(node))
  greyOut(node)
}

/**
 * Call a function after a widget's own callback.
 * @param {any} widget may be undefined
 * @param {() => void} then
 */
export function onChoice(widget, then) {
  if (!widget) return
  const before = widget.callback
  widget.callback = function (/** @type {any[]} */ ...args) {
    const result = before?.apply(this, args)
    then()
    return result
  }
}

/**
 * Hide or show a widget, and say whether that changed anything. One that is an input with a link stays visible.
 *
 * Nodes 2.0 follows the options that the page has stored for a widget. Pages that store none (before 1.38 or so) read
 * them only once, so there all widgets stay visible: better than hiding one that is needed later.
 * @param {any} node
 * @param {any} widget
 * @param {boolean} hidden
 */
export function hide(node, widget, hidden) {
  const linked = (node.inputs ?? []).some(
    (/** @type {any} */ input) => input.widget?.name === widget.name && input.link != null
  )
  const before = Boolean(widget.hidden)
  widget.hidden = hidden && !linked
  // older classic canvases leave room for hidden widgets; 4 is the gap between two
  if (widget.hidden) widget.computeSize = () => [0, -4]
  else delete widget.computeSize
  const stored = widget._state?.options
  if (stored) {
    stored.hidden = widget.hidden // first: it notifies the page, unless the value is there already
    widget.options.hidden = widget.hidden
  }
  return before !== widget.hidden
}

/**
 * Make a node as tall as its visible widgets need.
 * @param {any} node
 */
export function fit(node) {
  if (node.computeSize && node.setSize) node.setSize([node.size[0], node.computeSize()[1]])
}
