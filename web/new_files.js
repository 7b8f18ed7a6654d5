// @ts-check
// Puts a file that was just written into every list of such files on the page, so that it can be chosen without a reload.
import { api } from '../../scripts/api.js'

/** @typedef {{type: string, input: string, name: RegExp}} List a node with a list of files, its input, and the names of all inputs that can have this list */
/** @typedef {{name: RegExp, before: string[], now: string[]}} Change of the lists of inputs with such a name */

/** @type {List[]} */
export const LORA_LISTS = [
  { type: 'PM LoRA Loader', input: 'lora_name', name: /lora/i },
  { type: 'PM LoRA from Folder', input: 'folder', name: /^folder$/ }
]
/** @type {List[]} */
export const MODEL_LISTS = [
  { type: 'PM LoRA Bake', input: 'model_file', name: /^(model_file|tuned|base)$/ },
  { type: 'CheckpointLoaderSimple', input: 'ckpt_name', name: /ckpt|checkpoint/i },
  { type: 'UNETLoader', input: 'unet_name', name: /unet|diffusion|model/i },
  { type: 'CLIPLoader', input: 'clip_name', name: /clip|encoder/i }
]

/**
 * Read the server's lists of files and update the nodes on the page and the definitions of those to come.
 * @param {Iterable<any>} nodes all nodes of the workflow
 * @param {Record<string, any>} types LiteGraph's registered node types
 * @param {List[]} lists those that a new file can be in
 */
export async function refreshFiles(nodes, types, lists = LORA_LISTS) {
  const found = await Promise.all(lists.map(({ type }) => definition(type)))
  const changes = lists
    .map(({ type, input, name }, index) => change(name, types[type], found[index], input))
    .filter((each) => each !== null)
  if (!changes.length) return
  for (const type of Object.values(types)) updateDefinition(type.nodeData, changes)
  for (const node of nodes) {
    for (const widget of node.widgets ?? []) update(widget.name, widget.options?.values, changes)
    node.setDirtyCanvas?.(true, true)
  }
}

/**
 * A node's definition on the server; undefined if there is no answer, which leaves the lists as they are.
 * @param {string} type
 */
async function definition(type) {
  try {
    const answer = await api.fetchApi(`/object_info/${encodeURIComponent(type)}`)
    return (await answer.json())?.[type]
  } catch {
    return undefined
  }
}

/**
 * @param {RegExp} name
 * @param {any} type as registered on the page
 * @param {any} fresh its definition on the server
 * @param {string} input whose list is compared
 * @returns {Change | null} null if nothing changed
 */
function change(name, type, fresh, input) {
  const before = choices(type?.nodeData, input)
  const now = choices(fresh, input)
  if (!before || !now || before.join('\n') === now.join('\n')) return null
  return { name, before: [...before], now }
}

/**
 * The list of a required input, in either form of ComfyUI's definitions.
 * @param {any} nodeData
 * @param {string} input
 * @returns {string[] | undefined}
 */
function choices(nodeData, input) {
  const [values, options] = nodeData?.input?.required?.[input] ?? []
  return Array.isArray(values) ? values : options?.options
}

/**
 * The lists in a node's definition: the server's, and the page's own form of them in `inputs`, from which it makes new
 * nodes. They may be one array.
 * @param {any} nodeData
 * @param {Change[]} changes
 */
function updateDefinition(nodeData, changes) {
  for (const specs of [nodeData?.input?.required, nodeData?.input?.optional]) {
    for (const [name, spec] of Object.entries(specs ?? {})) {
      update(name, spec?.[0], changes)
      update(name, spec?.[1]?.options, changes)
    }
  }
  for (const [name, spec] of Object.entries(nodeData?.inputs ?? {})) update(name, spec?.options, changes)
}

/**
 * Replace the old files of an input's list by the new ones if it is one of these. It may begin with one other
 * entry, such as None. The array stays the same: Nodes 2.0 in front end 1.49 draws a combo from a copy of its options.
 * @param {string} input
 * @param {any} values
 * @param {Change[]} changes
 */
function update(input, values, changes) {
  if (!Array.isArray(values)) return
  const change = changes.find(({ name, before, now }) => {
    const start = values.length - before.length
    const begins = start === 0 || (start === 1 && !now.includes(values[0]))
    return begins && name.test(input) && before.every((file, index) => values[start + index] === file)
  })
  if (change) values.splice(values.length - change.before.length, change.before.length, ...change.now)
}
