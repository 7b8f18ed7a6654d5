import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { makeSearch } from '../../web/power_search.js'
import { document, settled } from './document.mjs'
import { api } from './stubs/api.mjs'

/** @type {string[]} */
let added
/** @type {any} */
let search
/** @type {any} */
let field

beforeEach(async () => {
  api.answers = {
    '/models/loras': ['ink.safetensors', 'old/paper.safetensors', 'wash.safetensors'],
    '/lora_power_merger/facts': { 'ink.safetensors': { family: 'Flux', summary: 'Flux, rank 4' } }
  }
  added = []
  search = makeSearch((file) => added.push(file), () => {})
  search.root.children[0].emit('click')
  await settled()
  field = document.activeElement
})

const box = () => search.root.children[1]
const options = () => [...box().all()].filter((one) => one.attributes.role === 'option')
const press = (/** @type {string} */ key) => box().emit('keydown', { key, target: field })

/** @param {string} text */
function type(text) {
  field.value = text
  field.emit('input')
}

test('the button opens a focused search field with all files and what they are', () => {
  assert.equal(field.attributes.role, 'combobox')
  assert.equal(search.isOpen(), true)
  assert.equal(options().length, 3)
  assert.match(options()[0].textContent, /Flux, rank 4/)
})

test('Enter takes the first hit, and the field is ready for the next', () => {
  type('pap')
  assert.equal(press('Enter').prevented, true)
  assert.deepEqual(added, ['old/paper.safetensors'])
  assert.equal(field.value, '')
  assert.equal(document.activeElement, field)
})

test('arrows choose another hit, within the list', () => {
  press('ArrowUp')
  for (let n = 0; n < 5; n++) press('ArrowDown')
  assert.equal(options()[2].attributes['aria-selected'], 'true')
  press('Enter')
  assert.deepEqual(added, ['wash.safetensors'])
})

test('Enter without a hit adds nothing', () => {
  type('zzz')
  press('Enter')
  assert.deepEqual(added, [])
  assert.match(box().textContent, /No file matches/)
})

test('Escape closes the search and gives the focus back', () => {
  press('Escape')
  assert.equal(search.isOpen(), false)
  assert.equal(document.activeElement, search.root.children[0])
})

test('the base model filters the files', () => {
  const family = box().find((/** @type {any} */ one) => one.tag === 'select')
  assert.deepEqual(family.children.map((/** @type {any} */ one) => one.attributes.value), ['', 'Flux'])
  family.value = 'Flux'
  family.emit('change')
  assert.deepEqual(options().map((one) => one.attributes.title), ['ink.safetensors'])
})
