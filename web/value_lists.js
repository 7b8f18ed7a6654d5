// @ts-check
// The values of an axis: a hint in place of an empty text, and a combo at the end of the node that adds and removes
// names. Both follow the chosen parameter. The server says what they are: the options `hints` and `lists` of a combo map
// a text widget to a hint, or to names, for each choice. The combos are input aids and not saved.
import { widgetOf } from './graph.js'
import { addChoice, CHOOSE } from './input_aid.js'
import { toggled } from './mode_list.js'
import { setPlaceholder } from './placeholders.js'
import { fit, hide, onChoice } from './used_widgets.js'

/**
 * @param {any} node
 * @returns {[combo: any, text: any, hints: Record<string, string>, lists: Record<string, string[]>][]}
 */
function texts(node) {
  const nodeData = node.constructor.nodeData
  const inputs = { ...nodeData?.input?.required, ...nodeData?.input?.optional }
  return Object.entries(inputs).flatMap(([name, [, options]]) =>
    Object.entries(options?.hints ?? {}).flatMap(([of, hints]) => {
      const [combo, text] = [widgetOf(node, name), widgetOf(node, of)]
      return combo && text ? [[combo, text, hints, options.lists?.[of] ?? {}]] : []
    })
  )
}

/** @param {any} text */
const aidOf = (text) => `add or remove ${text.name.replace('_values', '')} values`

/**
 * Add the combos to a new node.
 * @param {any} node
 */
export function offerValues(node) {
  for (const [combo, text, , lists] of texts(node)) {
    if (Object.keys(lists).length) {
      const offered = () => lists[combo.value] ?? []
      const every = [...new Set(Object.values(lists).flat())]
      const aid = addChoice(node, aidOf(text), every, (name) => {
        if (!offered().includes(name)) return
        text.value = toggled(text.value, name)
        text.callback?.(text.value)
      })
      aid.tooltip = 'Adds a name to the values, or removes it if it is there.'
    }
    onChoice(combo, () => showValues(node))
  }
  showValues(node)
}

/**
 * Hints and names for the parameters that are chosen now.
 * @param {any} node
 */
export function showValues(node) {
  let changed = false
  for (const [combo, text, hints, lists] of texts(node)) {
    setPlaceholder(text, hints[combo.value] ?? '')
    const aid = widgetOf(node, aidOf(text))
    if (!aid) continue
    const names = lists[combo.value] ?? []
    narrow(aid, names)
    changed = hide(node, aid, !names.length) || changed
  }
  if (changed) fit(node)
}

/**
 * Let a combo offer only these names. Nodes 2.0 of pages that store no options for a widget has read the whole list and
 * would not see another one: there all names stay, and those that don't belong to the parameter do nothing.
 * @param {any} aid
 * @param {string[]} names
 */
function narrow(aid, names) {
  const stored = aid._state?.options
  if (!stored && globalThis.LiteGraph?.vueNodesMode) return
  if (stored) stored.values = [CHOOSE, ...names]
  aid.options.values = [CHOOSE, ...names]
}
