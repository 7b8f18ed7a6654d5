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
 * A field for a strength. Text that is no number puts the last value back, or means null where there was none.
 * @param {string} label
 * @param {number | null} value
 * @param {(value: number | null) => void} changed
 */
export function numberField(label, value, changed) {
  const field = element('input', { type: 'number', step: '0.05', min: '-20', max: '20', 'aria-label': label })
  field.value = value ?? ''
  const optional = value === null
  let last = value
  field.addEventListener('change', () => {
    const found = strengthOf(field.value)
    if (found !== null || field.value === '') last = found ?? (optional || label.startsWith('Text') ? null : last)
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
      if (event.target.closest?.('button, input, textarea, select, [role=option], .pm-hits')) event.stopPropagation()
    })
  }
}

/** Load the style sheet of these elements, once. */
export function addStyle() {
  if (document.getElementById('pm-style')) return
  const href = new URL('power_loader.css', import.meta.url).href
  document.head.append(element('link', { id: 'pm-style', rel: 'stylesheet', href }))
}
