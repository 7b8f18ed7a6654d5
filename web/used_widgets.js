// @ts-check
// Greys out the widgets that the chosen mode does not look at. Which they are comes with the mode's combo from the
// server: its option `uses` names a widget and the choices that it counts for.

/**
 * The combos of a node that say which widgets count for which of their choices.
 * @param {any} nodeData a node's entry in /object_info
 * @returns {[combo: string, uses: Record<string, string[]>][]}
 */
function combosWithUses(nodeData) {
  const inputs = { ...nodeData?.input?.required, ...nodeData?.input?.optional }
  return Object.entries(inputs).flatMap(([name, [, options]]) => (options?.uses ? [[name, options.uses]] : []))
}

/**
 * Grey out what doesn't count now. A combo whose value comes through a link leaves everything in use.
 * @param {any} node
 */
export function greyOut(node) {
  for (const [name, uses] of combosWithUses(node.constructor.nodeData)) {
    const combo = find(node, name)
    if (!combo) continue
    const slot = (node.inputs ?? []).findIndex((/** @type {any} */ input) => input.widget?.name === name)
    const linked = slot >= 0 && node.isInputConnected(slot)
    for (const [other, choices] of Object.entries(uses)) {
      const widget = find(node, other)
      if (widget) widget.disabled = !linked && !choices.includes(combo.value)
    }
  }
  node.setDirtyCanvas?.(true, true)
}

/**
 * Keep a new node's widgets as its combos say.
 * @param {any} node
 */
export function watchCombos(node) {
  for (const [name] of combosWithUses(node.constructor.nodeData)) {
    const combo = find(node, name)
    if (!combo) continue
    const before = combo.callback
    combo.callback = function (/** @type {any[]} */ ...args) {
      const result = before?.apply(this, args)
      greyOut(node)
      return result
    }
  }
  greyOut(node)
}

/**
 * @param {any} node
 * @param {string} name
 */
const find = (node, name) => node.widgets?.find((/** @type {any} */ widget) => widget.name === name)
