import assert from 'node:assert/strict'
import { test } from 'node:test'
import { colour, COLOURS, styleSheet } from '../../web/link_colours.js'

test('each of our types has a colour of its own', () => {
  const colours = Object.values(COLOURS)
  assert.deepEqual(Object.keys(COLOURS), ['LoRA', 'LORA_STACK', 'XY', 'PM_MERGE_OPTIONS'])
  assert.equal(new Set(colours).size, colours.length)
  for (const each of colours) assert.match(each, /^#[0-9a-f]{6}$/)
})

test('the colours survive a palette that names none, and yield to one that does', () => {
  /** @type {Record<string, string>} */
  const table = { MODEL: '#b39ddb', LoRA: '' }
  colour(table)
  assert.equal(table.LoRA, COLOURS.LoRA)
  assert.equal(table.XY, COLOURS.XY)
  Object.assign(table, { MODEL: '', LoRA: '', LORA_STACK: '', XY: '', PM_MERGE_OPTIONS: '' })
  assert.deepEqual([table.LoRA, table.LORA_STACK, table.XY, table.PM_MERGE_OPTIONS], Object.values(COLOURS))
  Object.assign(table, { LoRA: '#123456' })
  assert.equal(table.LoRA, '#123456')
  assert.equal(table.MODEL, '')
})

test('a canvas without the table is left alone', () => {
  assert.doesNotThrow(() => colour(undefined))
})

test('Nodes 2.0 gets the variables under the names that it looks up', () => {
  for (const [type, ours] of Object.entries(COLOURS)) {
    assert.ok(styleSheet().includes(`--color-datatype-${type.toUpperCase()}: ${ours};`), type)
  }
})
