import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  aboutRow,
  familiesOf,
  familyWarning,
  folderOf,
  heightFor,
  moved,
  newRow,
  panelHeight,
  rowsOf,
  search,
  stemOf,
  strengthOf,
  textOf
} from '../../web/power_rows.js'

const A = newRow('styles/a.safetensors')

test('rows survive the way to text and back', () => {
  const rows = [{ ...A, on: false, strength: -0.5, strength_clip: 0, lbw: 'SD-OUT' }, newRow('b.safetensors')]
  assert.deepEqual(rowsOf(textOf(rows)), rows)
})

test('what a hand-written list leaves out has its default', () => {
  assert.deepEqual(rowsOf('[{"lora": "a.safetensors"}]'), [newRow('a.safetensors')])
  assert.deepEqual(rowsOf(''), [])
  assert.deepEqual(rowsOf(' '), [])
})

test('text that is no list of rows is none', () => {
  const texts = ['{', '{}', '"a"', '[1]', '[null]', '[{}]', '[{"lora": 1}]', '[{"lora": "a", "weight": 1}]']
  const values = ['{"lora": "a", "on": 1}', '{"lora": "a", "strength": "1"}', '{"lora": "a", "lbw": null}']
  for (const text of [...texts, ...values.map((value) => `[${value}]`)]) assert.equal(rowsOf(text), null, text)
})

test('moving a row keeps the others in order, and stops at both ends', () => {
  const rows = ['a', 'b', 'c'].map(newRow)
  const names = (/** @type {any[]} */ list) => list.map(({ lora }) => lora).join('')
  assert.equal(names(moved(rows, 0, 1)), 'bac')
  assert.equal(names(moved(rows, 2, -1)), 'acb')
  assert.equal(moved(rows, 0, -1), rows)
  assert.equal(moved(rows, 2, 1), rows)
})

test('strengths are numbers within the limits', () => {
  const found = ['0.5', '-3', '0,25', '99', '-99', '', ' ', 'x', 'NaN', 'Infinity'].map(strengthOf)
  assert.deepEqual(found, [0.5, -3, 0.25, 20, -20, null, null, null, null, null])
})

test('names are shown without folder and extension', () => {
  assert.equal(stemOf('styles\\ink.v2.safetensors'), 'ink.v2')
  assert.equal(folderOf('styles\\old/ink.safetensors'), 'styles/old')
  assert.equal(folderOf('ink.safetensors'), '')
})

test('a search wants all words, and puts names that begin with the first one on top', () => {
  const files = ['old/wash_ink.safetensors', 'pink.safetensors', 'ink/wash.safetensors', 'ink_wash.safetensors']
  assert.deepEqual(search(files, 'ink wash'), [
    'ink_wash.safetensors',
    'old/wash_ink.safetensors',
    'ink/wash.safetensors'
  ])
  assert.deepEqual(search(files, ''), files)
  assert.deepEqual(search(files, 'nothing'), [])
})

test('the base-model filter leaves only files of that model', () => {
  const facts = { 'a.safetensors': { family: 'SD 1.5' }, 'b.safetensors': { family: 'Flux' }, 'c.pt': { family: null } }
  assert.deepEqual(search(Object.keys(facts), '', facts, 'Flux'), ['b.safetensors'])
  assert.deepEqual(familiesOf(facts), ['Flux', 'SD 1.5'])
})

test('rows for different models are said in one sentence, rows that are off are not', () => {
  const rows = [newRow('a.safetensors'), newRow('b.safetensors'), newRow('c.safetensors')]
  const sd = { family: 'SD 1.5', group: 'sd' }
  const facts = { 'a.safetensors': sd, 'b.safetensors': sd, 'c.safetensors': { family: 'Flux', group: 'flux' } }
  assert.equal(
    familyWarning(rows, facts),
    "a and 1 more are for SD 1.5, c is for Flux: LoRAs for different models can't be merged."
  )
  assert.equal(familyWarning([rows[0], rows[1], { ...rows[2], on: false }], facts), '')
  assert.equal(familyWarning(rows, {}), '')
  const chroma = { ...facts, 'b.safetensors': { family: 'Chroma', group: 'flux' }, 'a.safetensors': {} }
  assert.equal(familyWarning(rows, chroma), '')
})

test('the line of a row says what the file is and what its closed panel hides', () => {
  assert.equal(aboutRow(A, { summary: 'SD 1.5, rank 4, 3 MB' }), 'SD 1.5, rank 4, 3 MB · in styles')
  assert.equal(aboutRow(newRow('a.pt'), undefined), 'looking into the file…')
  assert.equal(aboutRow(newRow('a.pt'), { error: 'gone' }), 'gone')
  const row = { ...newRow('a.pt'), strength_clip: 0.5, lbw: 'SD-OUT' }
  assert.equal(aboutRow(row, { summary: 'Flux' }), 'Flux · text encoder 0.5 · blocks SD-OUT')
  assert.equal(aboutRow({ ...row, strength_clip: 1, lbw: '1,'.repeat(30) }, { summary: 'X' }).length, 3 + 1 + 8 + 25 - 1)
})

test('the height grows with rows up to twelve, the panel, the search and the warning', () => {
  const [none, one, twelve, twenty] = [0, 1, 12, 20].map((rows) => heightFor(rows, 0, false, false))
  assert.ok(none < one && one < twelve && twelve === twenty)
  assert.equal(heightFor(1, 80, false, false), one + 80)
  assert.ok(heightFor(1, 0, true, false) > one && heightFor(1, 0, false, true) > one)
})

test('the panel is as high as what it shows, up to a limit', () => {
  const empty = panelHeight(undefined)
  const words = panelHeight({ trigger_words: ['ink'] })
  const all = panelHeight({ base_model: 'SD 1.5', trigger_words: Array(99).fill('ink'), has_preview: true })
  assert.ok(empty < words && words < all && all < 200)
  assert.ok(panelHeight({ has_preview: true }) > words)
})
