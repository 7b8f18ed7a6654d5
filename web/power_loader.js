// @ts-check
// The widget of PM Power Loader: rows as page elements, the same on both canvases. Its value is the rows' text.
import { app } from '../../scripts/app.js'
import { button, element, isolate } from './elements.js'
import { factsOf, forgetFacts } from './lora_facts.js'
import { closeCard, rowElement } from './power_row.js'
import { makeSearch } from './power_search.js'
import { aboutRow, familyWarning, heightFor, moved, newRow, panelHeight, rowsOf, stemOf, textOf } from './power_rows.js'

const WIDTH = 400

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
    margin: 5,
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
    else this.list.replaceChildren(...this.rows.map((_, index) => rowElement(this, index)))
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
   * @param {number} index
   * @param {number} step
   */
  move(index, step) {
    const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
    const target = index + step
    if (this.open === index) this.open = target
    else if (this.open === target) this.open = index
    // at the end the button is disabled and can't keep the focus
    const atEnd = target === (step < 0 ? 0 : rows.length - 1)
    const key = atEnd ? 'name' : step < 0 ? 'up' : 'down'
    const said = `${stemOf(rows[index].lora)} is now row ${target + 1} of ${rows.length}.`
    this.change(moved(rows, index, step), said, `${key}${target}`)
  }

  /** @param {number} index */
  remove(index) {
    const rows = /** @type {import('./power_rows.js').Row[]} */ (this.rows)
    this.open = this.open === index ? -1 : this.open > index ? this.open - 1 : this.open
    const left = rows.filter((_, other) => other !== index)
    const focus = left.length ? `remove${Math.min(index, left.length - 1)}` : 'add'
    this.change(left, `Removed ${stemOf(rows[index].lora)}.`, focus)
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
