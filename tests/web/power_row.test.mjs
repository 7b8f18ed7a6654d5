import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { about, closeCard, rowElement } from '../../web/power_row.js'
import { newRow } from '../../web/power_rows.js'
import { document } from './document.mjs'

const FACTS = { summary: 'SD 1.5', base_model: 'sd_v1', trigger_words: ['ink', 'wash'], has_preview: true, presets: null }

/** @type {any[]} */
let changes
/** @type {any} */
let view

beforeEach(() => {
  changes = []
  view = {
    rows: [newRow('sub/a.safetensors'), newRow('b.safetensors')],
    facts: { 'sub/a.safetensors': FACTS },
    presets: { 'SD-OUT': '1' },
    open: 0,
    set: (/** @type {any[]} */ ...args) => changes.push(args),
    move: (/** @type {any[]} */ ...args) => changes.push(['move', ...args])
  }
})

const control = (/** @type {any} */ row, /** @type {string} */ key) => row.querySelector(`[data-key="${key}"]`)

test('the open panel changes text encoder and block weights of its row', () => {
  const row = rowElement(view, 0)
  for (const [key, value] of [['clip0', '0.5'], ['clip0', ''], ['lbw0', ' SD-OUT ']]) {
    control(row, key).value = value
    control(row, key).emit('change')
  }
  assert.deepEqual(changes, [[0, { strength_clip: 0.5 }], [0, { strength_clip: null }], [0, { lbw: 'SD-OUT' }]])
  const options = [...row.all()].filter(({ tag }) => tag === 'option').map(({ attributes }) => attributes.value)
  assert.deepEqual(options, ['SD-OUT'])
})

test('only the presets that fit the file are offered', () => {
  view.facts['sub/a.safetensors'] = { ...FACTS, presets: ['XL'] }
  const options = [...rowElement(view, 0).all()].filter(({ tag }) => tag === 'option')
  assert.deepEqual(options.map(({ attributes }) => attributes.value), ['XL'])
})

test('the first row does not move up, the last not down', () => {
  const rows = [rowElement(view, 0), rowElement(view, 1)]
  assert.deepEqual([0, 1].map((n) => control(rows[n], `up${n}`).disabled), [true, false])
  assert.deepEqual([0, 1].map((n) => control(rows[n], `down${n}`).disabled), [false, true])
  control(rows[1], 'up1').emit('click')
  assert.deepEqual(changes, [['move', 1, -1]])
})

test('a file is described by what is known about it', () => {
  assert.deepEqual(about('a.pt', {}), [])
  const [base, words, picture] = about('a&b.pt', FACTS)
  assert.equal(base.textContent, 'Base model: sd_v1')
  assert.equal(words.textContent, 'Trigger words: ink, wash')
  assert.match(picture.attributes.src, /preview\?name=a%26b\.pt$/)
})

test('a card with picture and words hovers over the name of a closed row', () => {
  view.open = -1
  const name = control(rowElement(view, 0), 'name0')
  name.emit('mouseenter')
  assert.equal(document.body.children.length, 1)
  assert.match(document.body.children[0].textContent, /ink, wash/)
  name.emit('mouseleave')
  assert.equal(document.body.children.length, 0)
  control(rowElement(view, 1), 'name1').emit('mouseenter')
  closeCard()
  assert.equal(document.body.children.length, 0)
})
