// @ts-check
// A combo at the end of the node that writes a preset's block weights into lbw. It is an input aid and not saved.

const CHOOSE = 'choose…'

/** @param {any} node */
export function offerPresets(node) {
  const presets = node.constructor.nodeData?.input?.required?.lbw?.[1]?.presets
  const lbw = node.widgets?.find((/** @type {any} */ widget) => widget.name === 'lbw')
  if (!lbw || !presets || !Object.keys(presets).length) return
  const combo = node.addWidget(
    'combo',
    'lbw preset',
    CHOOSE,
    (/** @type {string} */ name) => {
      if (!(name in presets)) return
      lbw.value = `${name}:${presets[name]}`
      lbw.callback?.(lbw.value)
      combo.value = CHOOSE
    },
    { values: [CHOOSE, ...Object.keys(presets)], serialize: false }
  )
  combo.serialize = false
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
  combo.tooltip = 'Writes the weights of a preset into lbw, where you can edit them.'
}
