import assert from 'node:assert/strict'
import { test } from 'node:test'
import { keepPlaceholders, setPlaceholder } from '../../web/placeholders.js'
import { FakeNode } from './fakes.mjs'

/** @param {string} placeholder */
function textWidget(placeholder) {
  const node = new FakeNode()
  const widget = { name: 'values', element: { placeholder }, options: /** @type {any} */ ({}) }
  node.widgets = [{ name: 'mode', value: 'ties' }, widget]
  keepPlaceholders(node)
  return widget
}

test('every box that Nodes 2.0 draws gets the placeholder, now and when it changes', () => {
  const widget = textWidget('0.3, 0.8')
  const [onNode, inPanel, late] = [{ placeholder: '' }, { placeholder: '' }, { placeholder: '' }]
  widget.options.onVnodeMounted({ el: onNode })
  widget.options.onVnodeMounted({ el: inPanel })
  assert.deepEqual([onNode.placeholder, inPanel.placeholder], ['0.3, 0.8', '0.3, 0.8'])
  widget.options.onVnodeBeforeUnmount({ el: inPanel })
  setPlaceholder(widget, 'ties, concat')
  assert.deepEqual([widget.element.placeholder, onNode.placeholder, inPanel.placeholder], ['ties, concat', 'ties, concat', '0.3, 0.8'])
  widget.options.onVnodeMounted({ el: late })
  assert.equal(late.placeholder, 'ties, concat', 'a box that is drawn anew, as after a change of canvas')
})

test('a placeholder that is only the name is left to the page, which has a label', () => {
  assert.deepEqual(textWidget('values').options, {})
})

test('a widget without an element is left alone', () => {
  const node = new FakeNode()
  node.widgets = [{ name: 'steps', value: 4, options: {} }]
  keepPlaceholders(node)
  setPlaceholder(node.widgets[0], 'x')
  assert.deepEqual(node.widgets, [{ name: 'steps', value: 4, options: {} }])
})
