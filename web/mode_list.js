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
 * A list of names with one more, or without it.
 * @param {string} text separated by commas, semicolons or lines, and by spaces if the name has none
 * @param {string} name
 */
export function toggled(text, name) {
  const names = text.split(name.includes(' ') ? /[,;，；、\r\n]+/ : /[\s,;，；、]+/).map((each) => each.trim())
  const present = names.filter(Boolean)
  const others = present.filter((each) => each.toLowerCase() !== name)
  return (others.length < present.length ? others : [...present, name]).join(', ')
}
