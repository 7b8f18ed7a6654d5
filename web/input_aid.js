// @ts-check
// A combo that writes into another widget. It always shows the same word, and isn't saved.

export const CHOOSE = 'choose…'

/**
 * @param {any} node gets the combo as its last widget, and room for it
 * @param {string} name
 * @param {string[]} choices
 * @param {(choice: string) => void} choose
 */
export function addChoice(node, name, choices, choose) {
  const combo = node.addWidget(
    'combo',
    name,
    CHOOSE,
    (/** @type {string} */ choice) => {
      if (!choices.includes(choice)) return
      choose(choice)
      combo.value = CHOOSE
    },
    { values: [CHOOSE, ...choices], serialize: false }
  )
  combo.serialize = false
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])])
  return combo
}
