// @ts-check
// On PM Load LoRA: a line that says what the file is, and block presets that fit it.
import { element, isolate } from './elements.js'
import { widgetOf } from './graph.js'
import { factsOf, forgetFacts } from './lora_facts.js'
import { showLora } from './menu.js'
import { limitPresets } from './presets.js'

const NAME = 'this LoRA is'
const WIDTH = 340
const HEIGHT = 28
const MARGIN = 3 // ComfyUI's 10 would leave no height on the classic canvas

/**
 * Add the line to a new loader, and keep it up to date.
 * @param {any} node
 */
export function describeLora(node) {
  if (node.constructor.nodeData?.name !== 'PM LoRA Loader') return
  const file = widgetOf(node, 'lora_name')
  if (!file) return
  const button = element('button', { type: 'button', class: 'pm-line-about', title: 'What this LoRA is…' })
  button.addEventListener('click', () => void showLora(file.value, node))
  isolate(button)
  const line = node.addDOMWidget(NAME, 'PM_LORA_ABOUT', button, {
    getValue: () => button.textContent,
    setValue: () => {},
    getMinHeight: () => HEIGHT,
    getMaxHeight: () => HEIGHT,
    margin: MARGIN,
    serialize: false
  })
  line.serialize = false
  for (const widget of [file, widgetOf(node, 'on')]) {
    if (!widget) continue
    const before = widget.callback
    widget.callback = function (/** @type {any[]} */ ...args) {
      const result = before?.apply(this, args)
      if (widget === file) forgetFacts(file.value)
      void update(node)
      return result
    }
  }
  node.setSize([Math.max(node.size[0], WIDTH), Math.max(node.size[1], node.computeSize()[1])])
  void update(node)
}

/**
 * Show the facts of the file that is chosen now.
 * @param {any} node
 */
export async function update(node) {
  const [file, line, on] = [widgetOf(node, 'lora_name'), widgetOf(node, NAME), widgetOf(node, 'on')]
  if (!file || !line) return
  const asked = file.value
  const facts = typeof asked === 'string' && asked ? await factsOf(asked) : {}
  if (file.value !== asked) return
  line.element.textContent = `${on?.value === false ? 'off: left out. ' : ''}${facts.error ?? facts.summary ?? ''}`
  line.element.classList.toggle('pm-bad', Boolean(facts.error))
  limitPresets(node, facts.presets ?? null)
  node.setDirtyCanvas?.(true, true)
}
