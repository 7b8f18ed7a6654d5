// @ts-check
// Makes the node search list PM Merge LoRA first for "power merge". The search compares names only, so without this it
// finds the XY nodes, whose names hold these words.

const MERGER = 'PM LoRA Merger'
const ALL_WORDS = 4 // the search's class for a name that has all the words
const BELOW_KNOWN = -0.5 // its second criterion is how often a node is used, negated; 0 for nodes of custom packs

/**
 * Change what the search knows about our merger. Titles and saved workflows stay as they are.
 * @param {any[]} defs the entries of /object_info that the page's search and node library are about to read
 */
export function rankInSearch(defs) {
  const index = defs.findIndex((def) => def.name === MERGER)
  if (index < 0) return
  const def = defs[index]
  defs[index] = {
    ...def,
    // servers before search aliases: the words must be in the name to be found at all
    display_name: def.search_aliases ? def.display_name : `${def.display_name} (Power-Merger)`,
    postProcessSearchScores: (/** @type {number[]} */ [kind, ...rest]) =>
      kind < ALL_WORDS ? [kind, 0, ...rest] : [ALL_WORDS, BELOW_KNOWN, ...rest]
  }
}
