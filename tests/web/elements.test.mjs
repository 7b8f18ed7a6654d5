import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addStyle, element, isolate, numberField } from '../../web/elements.js'
import { document } from './document.mjs'

test('a number field puts the last number back for text that is none', () => {
  /** @type {any[]} */
  const told = []
  const field = numberField('Strength of a', 0.5, (value) => told.push(value))
  for (const text of ['x', '', '0.7', 'y', '99']) {
    field.value = text
    field.emit('change')
  }
  assert.deepEqual(told, [0.5, 0.5, 0.7, 0.7, 20])
  assert.equal(field.value, 20)
})

test('an optional number field may be empty', () => {
  /** @type {any[]} */
  const told = []
  const field = numberField('Text encoder strength', null, (value) => told.push(value), true)
  for (const text of ['0.5', '', 'x']) {
    field.value = text
    field.emit('change')
  }
  assert.deepEqual(told, [0.5, null, null])
})

test('keys stay in the element, shortcuts with Ctrl reach ComfyUI', () => {
  const root = element('div')
  isolate(root)
  assert.equal(root.emit('keydown', { key: 'Delete' }).stopped, true)
  assert.equal(root.emit('keydown', { key: 'z', ctrlKey: true }).stopped, false)
  assert.equal(root.emit('pointerdown', { target: { closest: () => ({}) } }).stopped, true)
  assert.equal(root.emit('pointerdown', { target: { closest: () => null } }).stopped, false)
})

test('each style sheet is loaded once', () => {
  addStyle()
  addStyle()
  const files = document.head.children.map((/** @type {any} */ one) => one.attributes.href.split('/').at(-1))
  assert.deepEqual(files, ['elements.css', 'power_loader.css', 'grid_view.css'])
})
