// @ts-check
// A combo at the end of the node with every mode: choosing one adds it to the text, or removes it if it is there. It is
// an input aid and not saved.
import { widgetOf } from './graph.js'
import { addChoice } from './input_aid.js'

/** @param {any} node */
export function offerModes(node) {
  const choices = node.constructor.nodeData?.input?.required?.modes?.[1]?.choices
  const text = widgetOf(node, 'modes')
  if (!text || !choices?.length) return
  const combo = addChoice(node, 'add or remove a mode', choices, (mode) => {
    text.value = toggled(text.value, mode)
    text.callback?.(text.value)
  })
  combo.tooltip = 'Adds a mode to the list of modes, or removes it if it is there.'
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
