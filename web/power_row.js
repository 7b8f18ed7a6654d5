// @ts-check
// One row of PM Power Loader as page elements. What they do is in power_loader.js.
import { button, element, numberField } from './elements.js'
import { previewUrl } from './lora_facts.js'
import { showLora } from './menu.js'
import { aboutRow, stemOf } from './power_rows.js'

/** @typedef {import('./power_rows.js').Row} Row */
/** @typedef {import('./power_loader.js').RowsView} View */

let panels = 0

/**
 * The elements of one row.
 * @param {View} view
 * @param {number} index
 */
export function rowElement(view, index) {
  const rows = /** @type {Row[]} */ (view.rows)
  const row = rows[index]
  const name = stemOf(row.lora)
  const toggle = element('input', { type: 'checkbox', role: 'switch', 'aria-label': name, 'data-key': `on${index}` })
  toggle.checked = row.on
  toggle.addEventListener('change', () => {
    item.classList.toggle('pm-off', !toggle.checked)
    view.set(index, { on: toggle.checked })
  })
  const isOpen = view.open === index
  const panel = `pm-panel-${++panels}`
  const title = button(name, () => view.toggle(index), {
    class: 'pm-name',
    title: row.lora,
    'aria-expanded': String(isOpen),
    'aria-controls': panel,
    'aria-label': `${name}: text encoder, block weights, trigger words`,
    'data-key': `name${index}`
  })
  const strength = numberField(`Strength of ${name}`, row.strength, (value) =>
    view.set(index, { strength: value ?? row.strength })
  )
  strength.dataset.key = `strength${index}`
  const last = rows.length - 1
  const item = element('li', { class: `pm-row${row.on ? '' : ' pm-off'}` }, [
    element('div', { class: 'pm-line' }, [
      toggle,
      title,
      strength,
      mover(view, index, -1, index === 0),
      mover(view, index, 1, index === last),
      button('✕', () => view.remove(index), { 'aria-label': `Remove ${name}`, 'data-key': `remove${index}` })
    ]),
    element('p', { class: `pm-about${view.facts[row.lora]?.error ? ' pm-bad' : ''}` }, [
      aboutRow(row, view.facts[row.lora])
    ]),
    ...(isOpen ? [panelElement(view, index, panel)] : [])
  ])
  hoverCard(view, title, row.lora)
  return item
}

/**
 * @param {View} view
 * @param {number} index
 * @param {number} step
 * @param {boolean} disabled
 */
function mover(view, index, step, disabled) {
  const way = step < 0 ? 'up' : 'down'
  const label = `Move ${stemOf(/** @type {Row[]} */ (view.rows)[index].lora)} ${way}`
  const attributes = { 'aria-label': label, 'data-key': `${way}${index}` }
  const made = button(step < 0 ? '↑' : '↓', () => view.move(index, step), attributes)
  made.disabled = disabled
  return made
}

/**
 * Text encoder, block weights, picture and trigger words of a row.
 * @param {View} view
 * @param {number} index
 * @param {string} id
 */
function panelElement(view, index, id) {
  const row = /** @type {Row[]} */ (view.rows)[index]
  const facts = view.facts[row.lora] ?? {}
  const names = facts.presets ?? Object.keys(view.presets)
  const setClip = (/** @type {number | null} */ value) => view.set(index, { strength_clip: value })
  const clip = numberField('Text encoder strength', row.strength_clip, setClip, true)
  clip.placeholder = 'as strength'
  clip.dataset.key = `clip${index}`
  const lbw = element('input', { type: 'text', list: `${id}-presets`, placeholder: '1 for every block' })
  lbw.value = row.lbw
  lbw.dataset.key = `lbw${index}`
  lbw.addEventListener('change', () => view.set(index, { lbw: lbw.value.trim() }))
  const options = names.map((/** @type {string} */ value) => element('option', { value }))
  return element('div', { class: 'pm-panel', id }, [
    element('label', {}, ['Text encoder', clip]),
    element('label', {}, ['Block weights', lbw, element('datalist', { id: `${id}-presets` }, options)]),
    ...about(row.lora, facts),
    button('What this LoRA is…', () => void showLora(row.lora, view.node), { class: 'pm-wide' })
  ])
}

/**
 * Show picture and trigger words while the mouse rests on a name.
 * @param {View} view
 * @param {HTMLElement} target
 * @param {string} lora
 */
function hoverCard(view, target, lora) {
  target.addEventListener('mouseenter', () => {
    closeCard()
    const facts = view.facts[lora]
    if (target.getAttribute('aria-expanded') === 'true') return
    if (!facts || facts.error || (!facts.has_preview && !facts.trigger_words.length)) return
    const { left } = target.getBoundingClientRect()
    const { bottom } = (target.closest('li') ?? target).getBoundingClientRect()
    card = element('div', { class: 'pm-card', style: `left:${left}px;top:${bottom + 4}px` }, about(lora, facts))
    document.body.append(card)
  })
  for (const end of ['mouseleave', 'click', 'blur']) target.addEventListener(end, closeCard)
}

/** @type {HTMLElement | undefined} */
let card

/** Remove the card that hovers over a name. */
export function closeCard() {
  card?.remove()
  card = undefined
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
