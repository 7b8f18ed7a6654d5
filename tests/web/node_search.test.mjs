import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rankInSearch } from '../../web/node_search.js'

const merger = (more = {}) => ({ name: 'PM LoRA Merger', display_name: 'PM Merge LoRA', ...more })

test('a match of an alias alone counts as one of all words, before nodes that nobody counts', () => {
  const defs = [{ name: 'KSampler' }, merger({ search_aliases: ['power merge'] })]
  rankInSearch(defs)
  assert.deepEqual(defs[1].postProcessSearchScores([9, 0, 0, 0.2]), [4, -0.5, 0, 0, 0.2])
  assert.deepEqual(defs[1].postProcessSearchScores([5, 1, 2, 0.2]), [4, -0.5, 1, 2, 0.2])
  assert.equal(defs[1].display_name, 'PM Merge LoRA')
  assert.deepEqual(defs[0], { name: 'KSampler' })
})

test('better matches keep their place', () => {
  const defs = [merger({ search_aliases: [] })]
  rankInSearch(defs)
  for (const kind of [0, 1, 2, 3]) assert.deepEqual(defs[0].postProcessSearchScores([kind, 7]), [kind, 0, 7])
})

test('without aliases the name has the words; the node\'s own entry is not changed', () => {
  const own = merger()
  const defs = [own]
  rankInSearch(defs)
  assert.equal(defs[0].display_name, 'PM Merge LoRA (Power-Merger)')
  assert.deepEqual(own, merger())
})

test('a server without the node is no problem', () => {
  assert.doesNotThrow(() => rankInSearch([{ name: 'KSampler' }]))
})
