// @ts-check
// From the recipe in a saved file to the nodes that make the file again: loaders, mergers, a save node. Only the plan;
// menu.js puts it on the canvas. The recipe's form is described in merge/provenance/recipe.py.

/** @typedef {{key: string, type: string, column: number, widgets: Record<string, any>}} PlannedNode */
/** @typedef {{from: string, to: string, input: string}} PlannedLink */
/** @typedef {{nodes: PlannedNode[], links: PlannedLink[], notes: string[]}} Plan */

const OPERATIONS = /** @type {Record<string, string>} */ ({
  merge: 'PM LoRA Merger',
  merge_svd: 'PM LoRA SVD Merger',
  resize: 'PM LoRA Resizer',
  load: ''
})
// Settings whose widgets have another name.
const RENAMED = /** @type {Record<string, Record<string, string>>} */ ({
  merge_svd: { rank: 'svd_rank', conv_rank: 'svd_conv_rank' },
  resize: { rank: 'new_rank', value: 'method_value' }
})
const STYLES = /** @type {Record<string, string>} */ ({
  kohya: 'kohya',
  peft: 'PEFT / diffusers',
  comfyui: 'ComfyUI'
})
const OF_THE_FILE = ['version', 'operation', 'inputs', 'steps', 'strength_model', 'strength_clip', 'save_dtype', 'names']
const NOT_WIDGETS = [...OF_THE_FILE, 'parameters', 'architecture', 'from_model_weights']

/**
 * The recipe in a text, with the steps that it stores once; null if it is none of ours.
 * @param {string} text
 * @returns {any}
 */
export function recipeOf(text) {
  let recipe
  try {
    recipe = JSON.parse(text)
  } catch {
    return null
  }
  return recipe && typeof recipe === 'object' && typeof recipe.operation === 'string' && Array.isArray(recipe.inputs)
    ? recipe
    : null
}

/**
 * One line a step that made the file: "merge, concat: ink x 0.8, paper".
 * @param {any} recipe
 */
export function sentenceOf(recipe) {
  const names = recipe.inputs.map((/** @type {any} */ entry) => {
    const { strength_model: model = 1, strength_clip: clip = 1, name } = entry ?? {}
    const strength = model === clip ? (model === 1 ? '' : ` x ${model}`) : ` x ${model} / ${clip}`
    return `${name ?? 'a LoRA without a name'}${strength}`
  })
  const mode = recipe.mode ?? recipe.method
  return `${recipe.operation.replace('_', ' ')}${mode ? `, ${mode}` : ''}: ${names.join(', ')}`
}

/**
 * The nodes that make a file again. Throws an Error with a sentence for what can't be laid out.
 * @param {any} recipe from recipeOf
 * @param {string[]} files ComfyUI's names of the LoRA files
 * @param {string} name for the file to save
 * @returns {Plan}
 */
export function planOf(recipe, files, name) {
  /** @type {Plan} */
  const plan = { nodes: [], links: [], notes: [] }
  /** @type {Map<any, string>} steps that have their nodes already */
  const made = new Map()
  const listed = new Map(files.map((file) => [file.replace(/\\/g, '/'), file]))
  const steps = Array.isArray(recipe.steps) ? recipe.steps : []
  let count = 0

  /**
   * @param {string} type
   * @param {number} depth
   * @param {Record<string, any>} widgets
   */
  function add(type, depth, widgets) {
    const key = `n${++count}`
    plan.nodes.push({ key, type, column: -depth, widgets })
    return key
  }

  /**
   * @param {any} step
   * @param {number} depth how many columns left of the save node
   * @returns {string} key of the node whose output is the step's result
   */
  function build(step, depth) {
    if (made.has(step)) return /** @type {string} */ (made.get(step))
    if (depth > 100) throw new Error('The recipe is nested too deeply to lay out.')
    const type = OPERATIONS[step.operation]
    if (type === undefined) throw new Error(`There is no node here for the operation "${step.operation}".`)
    const inputs = Array.isArray(step.inputs) ? step.inputs : []
    if (type === '' && inputs.length !== 1) throw new Error('The recipe is damaged: it loads no single file.')
    let key
    if (type === '') key = input(inputs[0], depth)
    else {
      key = add(type, depth, settingsOf(step))
      for (const [index, entry] of inputs.entries()) {
        const target = step.operation === 'resize' ? 'lora' : `lora${index + 1}`
        plan.links.push({ from: input(entry, depth + 1), to: key, input: target })
      }
      const { parameters = {} } = step
      if (Object.keys(parameters).length) {
        const options = add('PM LoRA Merge Options', depth + 1, { mode: step.mode, ...parameters })
        plan.links.push({ from: options, to: key, input: 'options' })
      }
    }
    if (step.from_model_weights || step.architecture) needsModel(step.architecture)
    key = weighted(key, step, depth)
    made.set(step, key)
    return key
  }

  /**
   * @param {any} entry
   * @param {number} depth
   */
  function input(entry, depth) {
    const step = typeof entry?.made === 'number' ? steps[entry.made] : entry?.made
    const isStep = step && typeof step === 'object'
    const file = listed.get(entry?.file)
    if (entry?.from_model_weights) needsModel()
    if (typeof entry?.file === 'string' && (file !== undefined || !isStep)) {
      if (file === undefined) plan.notes.push(`${entry.file} is not in ComfyUI's loras folders.`)
      const [lbw = '', more] = entry.block_weights ?? []
      if (more !== undefined) plan.notes.push(`${entry.file} had block weights twice; its loader has the first.`)
      const alpha = entry.alpha_from === 'tensors' ? { alpha_from: 'tensors' } : {}
      const { strength_model = 1, strength_clip = 1 } = entry
      const settings = { strength_model, strength_clip, lbw, ...alpha }
      return add('PM LoRA Loader', depth, { lora_name: file ?? entry.file, ...settings })
    }
    if (!isStep) throw new Error(`The recipe doesn't say how ${entry?.name ?? 'one of its inputs'} was made.`)
    return weighted(build(step, depth), entry, depth)
  }

  /**
   * The node itself, or a PM LoRA Strength behind it where the strengths aren't 1.
   * @param {string} key
   * @param {any} entry
   * @param {number} depth
   */
  function weighted(key, entry, depth) {
    const { strength_model = 1, strength_clip = 1 } = entry
    if (strength_model === 1 && strength_clip === 1) return key
    const node = add('PM LoRA Strength', depth - 0.5, { strength_model, strength_clip })
    plan.links.push({ from: key, to: node, input: 'lora' })
    return node
  }

  /** @param {string} [family] */
  function needsModel(family) {
    const note = `Connect the model and clip${family ? ` (${family})` : ''} to the merger, as in the original merge.`
    if (!plan.notes.includes(note)) plan.notes.push(note)
  }

  const last = build(recipe, 1)
  const names = STYLES[recipe.names] ?? recipe.names
  const save = add('PM LoRA Save', 0, {
    file_name: name,
    ...(recipe.save_dtype ? { save_dtype: recipe.save_dtype } : {}),
    ...(names ? { save_format: names } : {})
  })
  plan.links.push({ from: last, to: save, input: 'lora' })
  return plan
}

/** @param {any} step */
function settingsOf(step) {
  const renamed = RENAMED[step.operation] ?? {}
  const settings = Object.entries(step).filter(([name]) => !NOT_WIDGETS.includes(name))
  return Object.fromEntries(settings.map(([name, value]) => [renamed[name] ?? name, value]))
}
