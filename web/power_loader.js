// @ts-check
// The widget of PM Power Loader: rows as ordinary page elements, the same on both canvases. Its value is the rows' text.
import { app } from '../../scripts/app.js'
import { element, isolate, numberField } from './elements.js'
import { factsOf, forgetFacts, previewUrl } from './lora_facts.js'
import { showLora } from './menu.js'
import { makeSearch } from './power_search.js'
import { aboutRow, familyWarning, heightFor, moved, newRow, panelHeight, rowsOf, stemOf, textOf } from './power_rows.js'

const WIDTH = 400
let lists = 0

/**
 * Add the widget to a node. ComfyUI calls it for an input with widgetType PM_LORA_ROWS.
 * @param {any} node
 * @param {string} name
 * @param {any} spec the input's specification
 */
export function addRowsWidget(node, name, spec) {
  const rows = new RowsView(node, spec?.[1]?.presets ?? {})
  const widget = node.addDOMWidget(name, 'PM_LORA_ROWS', rows.root, {
    getValue: () => rows.text,
    setValue: (/** @type {string} */ text) => rows.show(text),
    getMinHeight: () => rows.height,
    hideOnZoom: false
  })
  let fitted = 0 // the height that the rows needed last: a node that the user made taller stays so
  rows.onHeight = () => {
    const [width, height] = node.size
    const needed = node.computeSize()[1]
    if (height < needed || height <= fitted + 1) node.setSize([width, needed])
    fitted = needed
    node.setDirtyCanvas?.(true, true)
  }
  node.setSize([Math.max(node.size[0], WIDTH), node.size[1]])
  return { widget, minWidth: WIDTH }
}

/** The elements of one node, and the rows they show. */
export class RowsView {
  /**
   * @param {any} node
   * @param {Record<string, string>} presets of block weights
   */
  constructor(node, presets) {
    this.node = node
    this.presets = presets
    this.text = '[]'
    /** @type {import('./power_rows.js').Row[] | null} */
    this.rows = []
    /** @type {Record<string, any>} */
    this.facts = {}
    /** the index of the row whose panel is open */
    this.open = -1
    this.onHeight = () => {}
    this.list = element('ol', { class: 'pm-rows' })
    this.warning = element('p', { class: 'pm-warning', role: 'alert' })
    this.status = element('p', { class: 'pm-status', role: 'status' })
    this.search = makeSearch(
      (file) => this.change([...(this.rows ?? []), newRow(file)], `Added ${stemOf(file)}.`),
      () => this.resized()
    )
    this.root = element('div', { class: 'pm-power', role: 'group', 'aria-label': 'LoRAs' }, [
      this.list,
      this.warning,
      this.search.root,
      this.status
    ])
    isolate(this.root)
    this.render()
  }

  get height() {
    const open = this.rows?.[this.open]
    const panel = open ? panelHeight(this.facts[open.lora]) : 0
    return heightFor(this.rows?.length ?? 3, panel, this.search.isOpen(), Boolean(this.warning.textContent))
  }

  /** @param {string} text the widget's value, from a saved workflow */
  show(text) {
    if (text === this.text) return
    this.text = String(text ?? '[]')
    this.rows = rowsOf(this.text)
    this.open = -1
    this.render()
  }

  /**
   * Replace the rows because the user changed them.
   * @param {import('./power_rows.js').Row[]} rows
   * @param {string} [said] for screen readers
   * @param {string} [focus] key of the control to focus afterwards
   */
  change(rows, said = '', focus = '') {
    asOneChange(() => {
      this.store(rows)
      this.render()
    })
    this.status.textContent = said
    this.focus(focus)
  }

  /**
   * Store the rows as the widget's value.
   * @param {import('./power_rows.js').Row[]} rows
   */
  store(rows) {
    this.rows = rows
    this.text = textOf(rows)
    this.node.widgets?.find((/** @type {any} */ one) => one.element === this.root)?.callback?.(this.text)
    this.warn()
  }

  /** @param {string} key */
  focus(key) {
    if (key) this.root.querySelector(`[data-key="${key}"]`)?.focus()
  }

  render() {
    closeCard()
    if (this.rows === null) this.list.replaceChildren(this.unreadable())
    else this.list.replaceChildren(...this.rows.map((row, index) => this.rowElement(row, index)))
    for (const { lora } of this.rows ?? []) this.ask(lora)
    this.warn()
    this.resized()
  }

  resized() {
    this.onHeight()
  }

  warn() {
    const said = familyWarning(this.rows ?? [], this.facts)
    if (said !== this.warning.textContent) {
      this.warning.textContent = said
      this.resized()
    }
  }

  /**
   * Get a file's facts, then show them.
   * @param {string} lora
   */
  async ask(lora) {
    const known = this.facts[lora]
    const facts = await factsOf(lora)
    if (known === facts) return
    this.facts[lora] = facts
    for (const [index, row] of (this.rows ?? []).entries()) if (row.lora === lora) this.renderAbout(index)
    if (this.rows?.[this.open]?.lora === lora) this.render()
    this.warn()
  }

  /** @param {number} index */
  renderAbout(index) {
    const about = this.list.children[index]?.querySelector('.pm-about')
    const row = this.rows?.[index]
    if (!about || !row) return
    const facts = this.facts[row.lora]
    about.textContent = aboutRow(row, facts)
    about.classList.toggle('pm-bad', Boolean(facts?.error))
  }

  /** Text that is no list of rows, to be mended by hand. */
  unreadable() {
    const box = element('textarea', { 'aria-label': 'Text of the rows', rows: '4' })
    box.value = this.text
    box.addEventListener('change', () => {
      this.text = box.value
      this.rows = rowsOf(box.value)
      this.render()
    })
    return element('li', { class: 'pm-row' }, [
      element('p', { class: 'pm-bad' }, ['This text is no list of LoRAs.']),
      box,
      button('Remove all', () => this.change([], 'Removed all.'), { class: 'pm-wide' })
    ])
  }

  /**
   * @param {import('./power_rows.js').Row} row
   * @param {number} index
   */
  rowElement(row, index) {
    const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
    const name = stemOf(row.lora)
    const toggle = element('input', { type: 'checkbox', role: 'switch', 'aria-label': name, 'data-key': `on${index}` })
    toggle.checked = row.on
    toggle.addEventListener('change', () => {
      item.classList.toggle('pm-off', !toggle.checked)
      this.set(index, { on: toggle.checked })
    })
    const isOpen = this.open === index
    const panel = `pm-panel-${++lists}`
    const title = button(name, () => this.toggle(index), {
      class: 'pm-name',
      title: row.lora,
      'aria-expanded': String(isOpen),
      'aria-controls': panel,
      'aria-label': `${name}: text encoder, block weights, trigger words`,
      'data-key': `name${index}`
    })
    const strength = numberField(`Strength of ${name}`, row.strength, (value) =>
      this.set(index, { strength: value ?? row.strength })
    )
    strength.dataset.key = `strength${index}`
    const last = rows.length - 1
    const item = element('li', { class: `pm-row${row.on ? '' : ' pm-off'}` }, [
      element('div', { class: 'pm-line' }, [
        toggle,
        title,
        strength,
        this.mover(index, -1, `Move ${name} up`, '↑', index === 0),
        this.mover(index, 1, `Move ${name} down`, '↓', index === last),
        button('✕', () => this.remove(index), { 'aria-label': `Remove ${name}`, 'data-key': `remove${index}` })
      ]),
      element('p', { class: `pm-about${this.facts[row.lora]?.error ? ' pm-bad' : ''}` }, [
        aboutRow(row, this.facts[row.lora])
      ]),
      ...(isOpen ? [this.panel(row, index, panel)] : [])
    ])
    this.hoverCard(title, row.lora)
    return item
  }

  /**
   * @param {number} index
   * @param {number} step
   * @param {string} label
   * @param {string} sign
   * @param {boolean} disabled
   */
  mover(index, step, label, sign, disabled) {
    const key = step < 0 ? 'up' : 'down'
    const move = () => {
      const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
      const target = index + step
      if (this.open === index) this.open = target
      else if (this.open === target) this.open = index
      const end = step < 0 ? target === 0 : target === rows.length - 1
      this.change(
        moved(rows, index, step),
        `${stemOf(rows[index].lora)} is now row ${target + 1} of ${rows.length}.`,
        end ? `name${target}` : `${key}${target}`
      )
    }
    const made = button(sign, move, { 'aria-label': label, 'data-key': `${key}${index}` })
    made.disabled = disabled
    return made
  }

  /** @param {number} index */
  remove(index) {
    const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
    this.open = this.open === index ? -1 : this.open > index ? this.open - 1 : this.open
    const left = rows.filter((_, other) => other !== index)
    this.change(left, `Removed ${stemOf(rows[index].lora)}.`, left.length ? `remove${Math.min(index, left.length - 1)}` : 'add')
  }

  /** @param {number} index */
  toggle(index) {
    this.open = this.open === index ? -1 : index
    if (this.open >= 0) forgetFacts(this.rows?.[index].lora)
    this.render()
    this.focus(`name${index}`)
  }

  /**
   * Change one row without making its elements anew.
   * @param {number} index
   * @param {Partial<import('./power_rows.js').Row>} values
   */
  set(index, values) {
    const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
    asOneChange(() => this.store(rows.map((row, other) => (other === index ? { ...row, ...values } : row))))
    this.renderAbout(index)
  }

  /**
   * Text encoder, block weights, picture and trigger words of a row.
   * @param {import('./power_rows.js').Row} row
   * @param {number} index
   * @param {string} id
   */
  panel(row, index, id) {
    const facts = this.facts[row.lora] ?? {}
    const names = facts.presets ?? Object.keys(this.presets)
    const clip = numberField('Text encoder strength', row.strength_clip, (value) =>
      this.set(index, { strength_clip: value })
    )
    clip.placeholder = 'as strength'
    clip.dataset.key = `clip${index}`
    const lbw = element('input', { type: 'text', list: `${id}-presets`, placeholder: '1 for every block' })
    lbw.value = row.lbw
    lbw.dataset.key = `lbw${index}`
    lbw.addEventListener('change', () => this.set(index, { lbw: lbw.value.trim() }))
    const options = names.map((/** @type {string} */ value) => element('option', { value }))
    return element('div', { class: 'pm-panel', id }, [
      element('label', {}, ['Text encoder', clip]),
      element('label', {}, ['Block weights', lbw, element('datalist', { id: `${id}-presets` }, options)]),
      ...about(row.lora, facts),
      button('What this LoRA is…', () => void showLora(row.lora, this.node), { class: 'pm-wide', 'data-key': `show${index}` })
    ])
  }

  /**
   * Show picture and trigger words while the mouse rests on a name.
   * @param {HTMLElement} target
   * @param {string} lora
   */
  hoverCard(target, lora) {
    target.addEventListener('mouseenter', () => {
      closeCard()
      const facts = this.facts[lora]
      if (target.getAttribute('aria-expanded') === 'true') return
      if (!facts || facts.error || (!facts.has_preview && !facts.trigger_words.length)) return
      const { left } = target.getBoundingClientRect()
      const { bottom } = (target.closest('li') ?? target).getBoundingClientRect()
      card = element('div', { class: 'pm-card', style: `left:${left}px;top:${bottom + 4}px` }, about(lora, facts))
      document.body.append(card)
    })
    for (const end of ['mouseleave', 'click', 'blur']) target.addEventListener(end, closeCard)
  }
}

/** @type {HTMLElement | undefined} */
let card

function closeCard() {
  card?.remove()
  card = undefined
}

/**
 * Make changes of the graph that undo takes back in one step.
 * @param {() => void} act
 */
function asOneChange(act) {
  app.canvas?.emitBeforeChange?.()
  try {
    act()
  } finally {
    app.canvas?.emitAfterChange?.()
  }
}

/**
 * Base model, trigger words and picture of a file, as far as it has them.
 * @param {string} lora
 * @param {any} facts
 */
export function about(lora, facts) {
  const parts = []
  if (facts.base_model) parts.push(element('p', {}, [`Base model: ${facts.base_model}`]))
  if (facts.trigger_words?.length) parts.push(element('p', {}, [`Trigger words: ${facts.trigger_words.join(', ')}`]))
  if (facts.has_preview) parts.push(element('img', { src: previewUrl(lora), alt: `Preview of ${stemOf(lora)}` }))
  return parts
}

/**
 * @param {string} text
 * @param {() => void} act
 * @param {Record<string, string>} attributes
 */
function button(text, act, attributes) {
  const made = element('button', { type: 'button', ...attributes }, [text])
  made.addEventListener('click', act)
  return made
}
