// @ts-check
// Block weights on a node: the label and the hint of lbw, and a combo at the end that writes a preset's weights into
// it. The combo is an input aid and not saved.
import { widgetOf } from './graph.js'
import { addChoice, CHOOSE } from './input_aid.js'

const LABEL = 'block weights'
const COMBO = 'lbw preset'

/** @param {any} node */
export function offerPresets(node) {
  const presets = presetsOf(node)
  const lbw = widgetOf(node, 'lbw')
  if (!lbw) return
  // a translation has its own
  if (!lbw.label || lbw.label === 'lbw') lbw.label = LABEL
  showHint(lbw, node.constructor.nodeData?.input?.required?.lbw?.[1]?.placeholder ?? '')
  if (!Object.keys(presets).length) return
  const combo = addChoice(node, COMBO, Object.keys(presets), (name) => {
    lbw.value = `${name}:${presets[name]}`
    lbw.callback?.(lbw.value)
  })
  combo.label = 'block preset'
  combo.tooltip =
    'Writes the weights of a preset into block weights, where you can edit them. Lists those for the recognised model.'
}

/**
 * Offer only these presets; null: all of them, because the LoRA's model is not known.
 * @param {any} node
 * @param {string[] | null} names
 */
export function limitPresets(node, names) {
  const combo = widgetOf(node, COMBO)
  if (!combo) return
  const all = Object.keys(presetsOf(node))
  const offered = names === null ? all : all.filter((name) => names.includes(name))
  combo.options.values = [CHOOSE, ...offered]
}

/**
 * Draw a hint in place of an empty text. Nodes 2.0 has the input's placeholder; the classic canvas draws only texts.
 * @param {any} widget
 * @param {string} hint
 */
function showHint(widget, hint) {
  if (widget.options) widget.options.placeholder = hint
  Object.defineProperty(widget, '_displayValue', {
    configurable: true,
    get: () => (widget.computedDisabled ? '' : String(widget.value || hint))
  })
}

/** @param {any} node */
function presetsOf(node) {
  return node.constructor.nodeData?.input?.required?.lbw?.[1]?.presets ?? {}
}
