// @ts-check
// Greys out the widgets that the chosen mode ignores. The server says which ones: the `uses` option of a combo maps a
// widget to the choices that use it.

/**
 * The combos of a node that have a `uses` option.
 * @param {any} nodeData the node's entry in /object_info
 * @returns {[combo: string, uses: Record<string, string[]>][]}
 */
function combosWithUses(nodeData) {
  const inputs = { ...nodeData?.input?.required, ...nodeData?.input?.optional }
  return Object.entries(inputs).flatMap(([name, [, options]]) => (options?.uses ? [[name, options.uses]] : []))
}

/**
 * Grey out the widgets that the current choices ignore. If a combo's value comes from a link, all stay enabled.
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
 * Update a new node's widgets now and whenever one of its combos changes.
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
