// @ts-check
// Colours of our links and sockets. A colour palette that names one for these types wins.

/** @type {Record<string, string>} */
export const COLOURS = { LoRA: '#c7a6ff', LORA_STACK: '#8f6fd6', XY: '#f2b45c', PM_MERGE_OPTIONS: '#7fc8a9' }

/**
 * Give types a colour in one of the classic canvas's tables. Choosing another palette empties the entries of all types,
 * so a plain value would be gone after that.
 * @param {Record<string, string> | undefined} table link type -> colour
 */
export function colour(table) {
  if (!table) return
  for (const [type, ours] of Object.entries(COLOURS)) {
    let chosen = table[type]
    Object.defineProperty(table, type, {
      configurable: true,
      enumerable: true,
      get: () => chosen || ours,
      set: (value) => (chosen = value)
    })
  }
}

/** The style sheet for Nodes 2.0, where a palette sets the same variables on an element below. */
export function styleSheet() {
  const rules = Object.entries(COLOURS).map(([type, ours]) => `--color-datatype-${type.toUpperCase()}: ${ours};`)
  return `:root { ${rules.join(' ')} }`
}

/** @param {any} app */
export function colourLinks(app) {
  colour(app.canvas?.default_connection_color_byType)
  colour(/** @type {any} */ (globalThis).LGraphCanvas?.link_type_colors)
  const style = document.createElement('style')
  style.textContent = styleSheet()
  document.head.append(style)
}
