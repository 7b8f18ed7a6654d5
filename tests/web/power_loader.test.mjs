import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { addRowsWidget, RowsView } from '../../web/power_loader.js'
import { newRow, rowsOf, textOf } from '../../web/power_rows.js'
import { document, settled } from './document.mjs'
import { FakeNode } from './fakes.mjs'
import { api } from './stubs/api.mjs'
import { app } from './stubs/app.mjs'

const ROWS = [newRow('a.safetensors'), newRow('b.safetensors'), newRow('c.safetensors')]

/** @type {any} */
let view

beforeEach(() => {
  api.answers = { '/lora_power_merger/facts?name=a.safetensors': { summary: 'SD 1.5', trigger_words: [], presets: null } }
  view = new RowsView(new FakeNode(), { 'SD-OUT': '1,0' })
  view.show(textOf(ROWS))
})

const names = () => (rowsOf(view.text) ?? []).map(({ lora }) => lora[0]).join('')
const press = (/** @type {string} */ key) => view.root.querySelector(`[data-key="${key}"]`).emit('click')

test('each row has a switch with its name, a number, movers and a way to remove it', () => {
  const [row] = view.list.children
  const labels = [...row.all()].map((one) => one.attributes['aria-label']).filter(Boolean)
  assert.deepEqual(labels, [
    'a',
    'a: text encoder, block weights, trigger words',
    'Strength of a',
    'Move a up',
    'Move a down',
    'Remove a'
  ])
})

test('moving and removing keep the focus near, and say what happened', () => {
  press('down0')
  assert.equal(names(), 'bac')
  assert.equal(document.activeElement.dataset.key, 'down1')
  press('down1')
  assert.equal(names(), 'bca')
  assert.equal(document.activeElement.dataset.key, 'name2')
  assert.equal(view.status.textContent, 'a is now row 3 of 3.')
  press('remove2')
  assert.equal(names(), 'bc')
  assert.equal(document.activeElement.dataset.key, 'remove1')
})

test('a row that is switched off keeps everything else', () => {
  const toggle = view.root.querySelector('[data-key="on1"]')
  toggle.checked = false
  toggle.emit('change')
  assert.deepEqual(rowsOf(view.text), [ROWS[0], { ...ROWS[1], on: false }, ROWS[2]])
})

test('an open panel follows its row', () => {
  press('name0')
  assert.equal(view.open, 0)
  press('down0')
  assert.equal(view.open, 1)
  press('remove0')
  assert.equal(view.open, 0)
  press('name0')
  assert.equal(view.open, -1)
})

test('the facts of a file are shown at its row, and an error in place of them', async () => {
  await settled()
  const lines = view.list.children.map((/** @type {any} */ row) => row.querySelector('.pm-about'))
  assert.equal(lines[0].textContent, 'SD 1.5')
  assert.equal(lines[1].textContent, 'The server answered 404.')
  assert.ok(lines[1].classList.contains('pm-bad'))
})

test('text that is no list is kept until the user changes it', () => {
  view.show('{oops')
  assert.equal(view.text, '{oops')
  assert.match(view.list.textContent, /no list of LoRAs/)
})

test('the widget has the text as its value, and changes are one step to undo', () => {
  /** @type {string[]} */
  const steps = []
  app.canvas = { emitBeforeChange: () => steps.push('before'), emitAfterChange: () => steps.push('after') }
  const node = /** @type {any} */ (new FakeNode())
  node.addDOMWidget = (/** @type {string} */ name, /** @type {string} */ type, /** @type {any} */ root, /** @type {any} */ options) => {
    const widget = { name, type, element: root, options, callback: (/** @type {string} */ text) => steps.push(text) }
    node.widgets.push(widget)
    return widget
  }
  const { widget } = addRowsWidget(node, 'rows', ['STRING', { presets: {} }])
  widget.options.setValue(textOf(ROWS.slice(0, 1)))
  assert.equal(widget.options.getValue(), textOf(ROWS.slice(0, 1)))
  assert.deepEqual(steps, [])
  widget.element.querySelector('[data-key="remove0"]').emit('click')
  assert.deepEqual(steps, ['before', '[]', 'after'])
  assert.ok(widget.options.getMinHeight() > 0)
})
