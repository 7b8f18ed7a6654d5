// @ts-check
// Prompts in ComfyUI's API format, which the page can open like a workflow: from a file, or a picture that a program made.
import { app } from '../../scripts/app.js'
import { loraNumber } from './growing.js'

/**
 * Open such prompts with all their LoRAs: an input whose number comes after a gap wouldn't exist yet, and its LoRA would be
 * left out. The order, which is what counts, stays.
 * @param {(type: string) => boolean} grows whether nodes of a type have a growing series of LoRAs
 */
export function openWholePrompts(grows) {
  const open = /** @type {any} */ (app).loadApiJson
  if (!open) return
  /** @type {any} */ (app).loadApiJson = function (/** @type {any} */ prompt, /** @type {any[]} */ ...more) {
    const mended = Object.entries(prompt ?? {}).map(([id, node]) => {
      return [id, grows(node?.class_type) ? { ...node, inputs: withoutGaps(node.inputs ?? {}) } : node]
    })
    return open.call(this, Object.fromEntries(mended), ...more)
  }
}

/**
 * Inputs with their LoRAs as lora1, lora2, ... in the order of their numbers.
 * @param {Record<string, any>} inputs
 */
export function withoutGaps(inputs) {
  const entries = Object.entries(inputs)
  const loras = entries.filter(([name]) => loraNumber(name)).sort(([a], [b]) => loraNumber(a) - loraNumber(b))
  const others = entries.filter(([name]) => !loraNumber(name))
  return Object.fromEntries([...others, ...loras.map(([, value], index) => [`lora${index + 1}`, value])])
}
