// @ts-check
// A combo at the end of the node with every mode: choosing one adds it to the text, or removes it if it is there. It is
// an input aid and not saved.

const CHOOSE = 'choose…'

/** @param {any} node */
export function offerModes(node) {
  const choices = node.constructor.nodeData?.input?.required?.modes?.[1]?.choices
  const text = node.widgets?.find((/** @type {any} */ widget) => widget.name === 'modes')
  if (!text || !choices?.length) return
  const combo = node.addWidget(
    'combo',
    'add or remove a mode',
    CHOOSE,
    (/** @type {string} */ mode) => {
      if (!choices.includes(mode)) return
      text.value = toggled(text.value, mode)
      text.callback?.(text.value)
      combo.value = CHOOSE
    },
    { values: [CHOOSE, ...choices], serialize: false }
  )
  combo.serialize = false
  combo.tooltip = 'Adds a mode to the list of modes, or removes it if it is there.'
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
}

/**
 * A list of modes with one more, or without it.
 * @param {string} text separated by commas, semicolons, spaces or lines
 * @param {string} mode
 */
export function toggled(text, mode) {
  const modes = text.split(/[\s,;]+/).filter(Boolean)
  const others = modes.filter((each) => each.toLowerCase() !== mode)
  return (others.length < modes.length ? others : [...modes, mode]).join(', ')
}
