// @ts-check
// "Add LoRA": a button that opens a search field with hits as you type. Enter takes the first hit or the chosen one.
import { element } from './elements.js'
import { loraFiles, overview } from './lora_facts.js'
import { familiesOf, search, stemOf, folderOf } from './power_rows.js'

const SHOWN = 50
const ALL = 'all base models'
let count = 0

/**
 * @param {(file: string) => void} add
 * @param {() => void} resized
 */
export function makeSearch(add, resized) {
  const id = `pm-hits-${++count}`
  /** @type {string[]} */
  let files = []
  /** @type {Record<string, any>} */
  let facts = {}
  /** @type {string[]} */
  let hits = []
  let active = 0
  const button = element('button', { type: 'button', class: 'pm-wide', 'data-key': 'add', 'aria-expanded': 'false' }, [
    '+ Add LoRA'
  ])
  const field = element('input', {
    type: 'text',
    role: 'combobox',
    placeholder: 'Search LoRA files',
    'aria-label': 'Search LoRA files',
    'aria-expanded': 'true',
    'aria-controls': id,
    'aria-autocomplete': 'list',
    autocomplete: 'off'
  })
  const family = element('select', { 'aria-label': 'Base model' }, [element('option', { value: '' }, [ALL])])
  const list = element('ul', { id, class: 'pm-hits', role: 'listbox', 'aria-label': 'LoRA files' })
  const said = element('p', { class: 'pm-count', role: 'status' })
  const box = element('div', { class: 'pm-search' }, [element('div', { class: 'pm-line' }, [field, family]), list, said])
  box.hidden = true

  function show() {
    const found = search(files, field.value, facts, family.value)
    hits = found.slice(0, SHOWN)
    active = Math.min(active, Math.max(0, hits.length - 1))
    list.replaceChildren(...hits.map(option))
    const more = found.length - hits.length
    const count = `${found.length} file${found.length > 1 ? 's' : ''}${more ? `, ${SHOWN} shown` : ''}`
    said.textContent = found.length ? count : 'No file matches.'
    mark()
  }

  /**
   * @param {string} file
   * @param {number} place
   */
  function option(file, place) {
    const about = [facts[file]?.summary, folderOf(file)].filter(Boolean).join(' · ')
    const made = element('li', { role: 'option', id: `${id}-${place}`, title: file }, [
      element('span', { class: 'pm-hit' }, [stemOf(file)]),
      element('span', { class: 'pm-about' }, [about])
    ])
    made.addEventListener('click', () => take(file))
    return made
  }

  function mark() {
    for (const [place, one] of [...list.children].entries()) one.setAttribute('aria-selected', String(place === active))
    if (hits.length) field.setAttribute('aria-activedescendant', `${id}-${active}`)
    else field.removeAttribute('aria-activedescendant')
    list.children[active]?.scrollIntoView?.({ block: 'nearest' })
  }

  /** @param {string} file */
  function take(file) {
    add(file)
    field.value = ''
    active = 0
    show()
    field.focus({ preventScroll: true })
  }

  async function open() {
    box.hidden = false
    button.setAttribute('aria-expanded', 'true')
    resized()
    field.focus({ preventScroll: true })
    files = await loraFiles()
    show()
    const found = await overview()
    facts = 'error' in found ? {} : found
    const chosen = family.value
    family.replaceChildren(
      element('option', { value: '' }, [ALL]),
      ...familiesOf(facts).map((name) => element('option', { value: name }, [name]))
    )
    family.value = chosen
    show()
  }

  function close() {
    box.hidden = true
    button.setAttribute('aria-expanded', 'false')
    field.value = ''
    active = 0
    resized()
    button.focus({ preventScroll: true })
  }

  button.addEventListener('click', () => (box.hidden ? open() : close()))
  field.addEventListener('input', () => {
    active = 0
    show()
  })
  family.addEventListener('change', () => {
    active = 0
    show()
  })
  box.addEventListener('keydown', (/** @type {any} */ event) => {
    if (event.key === 'Escape') close()
    else if (event.target !== field || event.isComposing) return
    else if (event.key === 'Enter' && hits[active]) take(hits[active])
    else if (event.key === 'ArrowDown') active = Math.min(active + 1, hits.length - 1)
    else if (event.key === 'ArrowUp') active = Math.max(active - 1, 0)
    else return
    event.preventDefault()
    if (!box.hidden) mark()
  })
  return { root: element('div', { class: 'pm-add' }, [button, box]), isOpen: () => !box.hidden, open }
}
