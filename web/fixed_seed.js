// @ts-check
// A new PM XY Grid keeps its seed from run to run: plots can be compared only with the same noise.
import { widgetOf } from './graph.js'

/** @param {any} node */
export function keepSeed(node) {
  if (node.constructor.nodeData?.name !== 'PM XY Grid') return
  const control = widgetOf(node, 'control_after_generate')
  if (control) control.value = 'fixed'
}
