// @ts-check
// Entries in the right-click menu of our nodes: what a LoRA is, its recipe, and the nodes that made it.
import { app } from '../../scripts/app.js'
import { button, element, isolate } from './elements.js'
import { widgetOf } from './graph.js'
import { detailsOf, loraFiles, previewUrl } from './lora_facts.js'
import { rowsOf, stemOf } from './power_rows.js'
import { planOf, recipeOf, sentenceOf } from './recipe_nodes.js'

const FILE_WIDGET = /^lora(_name|_\d+|_[ab])$/
const LORA_FILE = /\.(safetensors|sft|pt|pth|bin|ckpt)$/i
const COLUMN = 400 // at least
const BESIDE = 60
const GAP = 150 // Nodes 2.0 draws nodes taller than their size
const WIDE = { class: 'pm-wide' }

/**
 * The entries for a node: for its file, or a submenu for each of its files.
 * @param {any} node
 * @returns {any[]}
 */
export function menuItems(node) {
  const files = filesOf(node)
  if (!files.length) return []
  const entries = [
    { content: 'Show what this LoRA is', act: (/** @type {string} */ file) => show(file, node) },
    { content: "Copy this LoRA's recipe", act: copyRecipe },
    { content: "Make this merge's nodes", act: (/** @type {string} */ file) => makeNodes(file, node) }
  ]
  return entries.map(({ content, act }) => {
    const run = (/** @type {string} */ file) => resolve(file).then(act).catch(tell)
    if (files.length === 1) return { content, callback: () => void run(files[0]) }
    const options = files.map((file) => ({ content: stemOf(file), callback: () => void run(file) }))
    return { content, has_submenu: true, submenu: { options } }
  })
}

/**
 * The LoRA files that a node names: in its file widgets, its rows, or what it saved last.
 * @param {any} node
 * @returns {string[]}
 */
export function filesOf(node) {
  const found = []
  for (const { name, value } of node.widgets ?? []) {
    if (typeof value !== 'string') continue
    if (FILE_WIDGET.test(name) && LORA_FILE.test(value)) found.push(value)
    else if (name === 'rows') found.push(...(rowsOf(value) ?? []).map(({ lora }) => lora))
    else if (name === 'result') found.push(...value.split('\n').slice(0, 1).filter((line) => LORA_FILE.test(line)))
  }
  return [...new Set(found)]
}

/**
 * ComfyUI's name for a file: PM Save LoRA shows a path.
 * @param {string} file
 */
async function resolve(file) {
  const wanted = file.replace(/\\/g, '/')
  const fitting = (await loraFiles()).filter((name) => `/${wanted}`.endsWith(`/${name.replace(/\\/g, '/')}`))
  return fitting.sort((a, b) => b.length - a.length)[0] ?? file
}

/**
 * Open the dialog about a file from elsewhere than the menu; an error becomes a message.
 * @param {string} file
 * @param {any} node
 */
export const showLora = (file, node) => show(file, node).catch(tell)

/**
 * A dialog with everything that is known about a file.
 * @param {string} file
 * @param {any} node below which nodes are laid out
 */
async function show(file, node) {
  const facts = await detailsOf(file)
  if (facts.error) throw new Error(facts.error)
  const recipe = recipeOf(facts.recipe ?? '')
  /** @type {[string, string][]} */
  const lines = [
    ['What it is', facts.summary],
    ['Modules', `${facts.modules} (${facts.adapters})`],
    ['Norm', facts.norm == null ? "depends on the model's weights" : Number(facts.norm).toPrecision(4)],
    ['Base model', facts.base_model || 'not named in the file'],
    ['Trigger words', facts.trigger_words.join(', ') || 'none in the file or beside it'],
    ['Made by', recipe ? sentenceOf(recipe) : 'no recipe: not saved by this pack']
  ]
  const words = facts.trigger_words.join(', ')
  const makeAndClose = () => {
    dialog.close()
    makeNodes(file, node).catch(tell)
  }
  const close = button('Close', () => dialog.close(), WIDE)
  const dialog = element('dialog', { class: 'pm-dialog', 'aria-labelledby': 'pm-dialog-title' }, [
    ...(facts.has_preview ? [element('img', { src: previewUrl(file), alt: `Preview of ${stemOf(file)}` })] : []),
    element('h2', { id: 'pm-dialog-title' }, [file]),
    element('dl', {}, lines.flatMap(([term, text]) => [element('dt', {}, [term]), element('dd', {}, [text])])),
    ...(recipe ? [element('pre', { tabindex: '0', 'aria-label': 'Recipe' }, [pretty(recipe)])] : []),
    element('div', { class: 'pm-buttons' }, [
      ...(facts.trigger_words.length ? [button('Copy trigger words', () => copy(words), WIDE)] : []),
      ...(recipe
        ? [
            button('Copy recipe', () => copy(pretty(recipe)), WIDE),
            button("Make this merge's nodes", makeAndClose, WIDE)
          ]
        : []),
      close
    ])
  ])
  isolate(dialog)
  dialog.addEventListener('close', () => dialog.remove())
  document.body.append(dialog)
  dialog.showModal()
  close.focus()
}

/** @param {string} file */
async function copyRecipe(file) {
  const { recipe } = await withRecipe(file)
  await copy(pretty(recipe))
  toast('success', `The recipe of ${stemOf(file)} is in the clipboard.`)
}

/**
 * Lay out the nodes of a file's recipe below the node that was clicked.
 * @param {string} file
 * @param {any} below
 */
async function makeNodes(file, below) {
  const { recipe } = await withRecipe(file)
  await placeBelow(planOf(recipe, await loraFiles(), `${stemOf(file)}_again`), below)
}

/**
 * Put planned nodes below a node, and say what they lack.
 * @param {import('./recipe_nodes.js').Plan} plan
 * @param {any} node
 */
export async function placeBelow(plan, node) {
  await place(plan, [node.pos[0], node.pos[1] + node.size[1] + GAP], node.graph)
  for (const note of plan.notes) toast('warn', note)
}

/**
 * Put planned nodes into a graph and connect them.
 * @param {import('./recipe_nodes.js').Plan} plan
 * @param {number[]} corner top left
 * @param {any} graph
 */
export async function place(plan, corner, graph) {
  /** @type {Map<string, any>} */
  const nodes = new Map()
  /** @type {Map<number, number>} height of each column so far */
  const heights = new Map()
  app.canvas?.emitBeforeChange?.()
  try {
    for (const { key, type } of plan.nodes) nodes.set(key, globalThis.LiteGraph.createNode(type))
    const lefts = leftsOf(plan, nodes)
    for (const { key, column, widgets } of plan.nodes) {
      const node = nodes.get(key)
      const top = heights.get(column) ?? 0
      // first: Nodes 2.0 in front end 1.32 doesn't follow a node that is moved as soon as it is there
      node.pos = [corner[0] + Number(lefts.get(column)), corner[1] + top]
      graph.add(node)
      for (const [name, value] of Object.entries(widgets)) {
        const widget = widgetOf(node, name)
        if (!widget) continue
        widget.value = value
        widget.callback?.(value, app.canvas, node)
        // the callback of a number rounds it to the decimals that the widget shows: 0.125 to 0.13
        if (typeof value === 'number') widget.value = value
      }
      heights.set(column, top + node.size[1] + GAP)
    }
    for (const { from, to, input } of plan.links) {
      const target = nodes.get(to)
      nodes.get(from).connect(0, target, await slotOf(target, input))
    }
  } finally {
    app.canvas?.emitAfterChange?.()
  }
  app.canvas?.selectItems?.([...nodes.values()])
  graph.setDirtyCanvas?.(true, true)
}

/**
 * Where each column begins, so that no node reaches into the next one.
 * @param {import('./recipe_nodes.js').Plan} plan
 * @param {Map<string, any>} nodes
 */
function leftsOf(plan, nodes) {
  /** @type {Map<number, number>} */
  const lefts = new Map()
  let left = 0
  for (const column of [...new Set(plan.nodes.map((one) => one.column))].sort((a, b) => a - b)) {
    lefts.set(column, left)
    const widths = plan.nodes.filter((one) => one.column === column).map(({ key }) => nodes.get(key).size[0])
    left += Math.max(COLUMN, Math.max(...widths) + BESIDE)
  }
  return lefts
}

/**
 * The index of an input; the next LoRA's appears shortly after one is connected.
 * @param {any} node
 * @param {string} name
 */
async function slotOf(node, name) {
  for (let turn = 0; turn < 20; turn++) {
    const index = node.inputs.findIndex((/** @type {any} */ input) => input.name === name)
    if (index >= 0) return index
    await Promise.resolve()
  }
  node.addInput(name, 'LoRA')
  return node.inputs.length - 1
}

/** @param {string} file */
async function withRecipe(file) {
  const facts = await detailsOf(file)
  if (facts.error) throw new Error(facts.error)
  const recipe = recipeOf(facts.recipe ?? '')
  if (!recipe) throw new Error(`${stemOf(file)} has no recipe: it was not saved by LoRA Power-Merger.`)
  return { recipe }
}

/** @param {any} recipe */
const pretty = (recipe) => JSON.stringify(recipe, null, 2)

/** @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // pages that aren't on https or localhost have no clipboard
    const box = element('textarea')
    box.value = text
    ;(document.querySelector('dialog[open]') ?? document.body).append(box)
    box.select()
    document.execCommand('copy')
    box.remove()
  }
}

/** @param {Error} error */
export const tell = (error) => toast('error', error.message)

/**
 * @param {string} severity
 * @param {string} detail
 */
export function toast(severity, detail) {
  const message = { severity, summary: 'LoRA Power-Merger', detail, life: 8000 }
  app.extensionManager?.toast?.add?.(message)
}
