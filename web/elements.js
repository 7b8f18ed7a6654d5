// @ts-check
// Small helpers for page elements on nodes.

import { strengthOf } from './power_rows.js'

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {(any)[]} [children]
 * @returns {any}
 */
export function element(tag, attributes = {}, children = []) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/**
 * @param {string} text
 * @param {() => void} act
 * @param {Record<string, string>} attributes
 */
export function button(text, act, attributes) {
  const made = element('button', { type: 'button', ...attributes }, [text])
  made.addEventListener('click', act)
  return made
}

/**
 * A field for a strength. Text that is no number puts the last value back; an optional one may be empty, which is null.
 * @param {string} label
 * @param {number | null} value
 * @param {(value: number | null) => void} changed
 * @param {boolean} [optional]
 */
export function numberField(label, value, changed, optional = false) {
  const field = element('input', { type: 'number', step: '0.05', min: '-20', max: '20', 'aria-label': label })
  field.value = value ?? ''
  let last = value
  field.addEventListener('change', () => {
    const found = strengthOf(String(field.value))
    if (found !== null || (optional && field.value === '')) last = found
    field.value = last ?? ''
    changed(last)
  })
  return field
}

/**
 * Keep the canvas from acting on what happens in an element: Delete would delete the node, a drag would move it.
 * Shortcuts with Ctrl still reach ComfyUI.
 * @param {any} root
 */
export function isolate(root) {
  const keep = (/** @type {any} */ event) => event.stopPropagation()
  for (const type of ['keydown', 'keyup', 'keypress']) {
    root.addEventListener(type, (/** @type {any} */ event) => {
      if (!event.ctrlKey && !event.metaKey) event.stopPropagation()
    })
  }
  for (const type of ['copy', 'cut', 'paste', 'dblclick']) root.addEventListener(type, keep)
  for (const type of ['pointerdown', 'mousedown', 'pointermove', 'wheel']) {
    root.addEventListener(type, (/** @type {any} */ event) => {
      if (type === 'wheel' && event.target.closest?.('[role=gridcell]')) return // the canvas zooms
      if (event.target.closest?.('button, a, input, textarea, select, [role=option], .pm-hits')) event.stopPropagation()
    })
  }
}

/** Load the style sheets of these elements, once. */
export function addStyle() {
  for (const name of ['elements', 'power_loader', 'grid_view']) {
    const id = name === 'power_loader' ? 'pm-style' : `pm-style-${name}`
    if (document.getElementById(id)) continue
    const href = new URL(`${name}.css`, import.meta.url).href
    document.head.append(element('link', { id, rel: 'stylesheet', href }))
  }
}
