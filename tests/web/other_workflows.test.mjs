import assert from 'node:assert/strict'
import { beforeEach, mock, test } from 'node:test'
import { catchUp, endWaiting, isElsewhere, showAt } from '../../web/other_workflows.js'
import { FakeGraph, FakeNode } from './fakes.mjs'
import { app } from './stubs/app.mjs'

/** @type {[any, number, boolean][]} what was shown: the node, the number, whether the run goes on */
let shown = []
const show = (/** @type {number} */ number) => (/** @type {any} */ node, /** @type {boolean} */ running) => void shown.push([node.id, number, running])

/**
 * Open a workflow with two nodes.
 * @param {string | undefined} id
 * @param {any} [tab]
 */
function open(id, tab) {
  app.rootGraph = Object.assign(new FakeGraph(), { id })
  for (const _ of [1, 2]) app.rootGraph.add(new FakeNode())
  const tabs = ['first', 'second'].map((path) => ({ path }))
  Object.assign(app.extensionManager, { workflow: tab && { activeWorkflow: tab, openWorkflows: tabs } })
}

beforeEach(() => {
  for (const id of ['a', 'b', 'c']) {
    open(id)
    catchUp()
  }
  shown = []
})

test('a state is elsewhere only if both workflows are known and differ', () => {
  open('a')
  assert.equal(isElsewhere({ node: '1', workflow: 'b' }), true)
  assert.equal(isElsewhere({ node: '1', workflow: 'a' }), false)
  assert.equal(isElsewhere({ node: '1', workflow: null }), false)
  open(undefined)
  assert.equal(isElsewhere({ node: '1', workflow: 'b' }), false)
})

test('of two tabs with one workflow, the one that is not in front is elsewhere; one that was closed is not', () => {
  open('a', { path: 'first' })
  assert.equal(isElsewhere({ workflow: 'a', tab: { path: 'second' } }), true)
  assert.equal(isElsewhere({ workflow: 'a', tab: { path: 'first' } }), false)
  assert.equal(isElsewhere({ workflow: 'a', tab: { path: 'closed' } }), false)
  assert.equal(isElsewhere({ workflow: 'a', tab: null }), false)
})

test('what is for the open workflow is shown at once, on a node that there is', () => {
  open('a')
  showAt({ node: '2', workflow: 'a' }, 'text', show(1))
  showAt({ node: '9', workflow: 'a' }, 'text', show(2))
  assert.deepEqual(shown, [[2, 1, false]])
})

test('the latest of each kind and node waits for its workflow, once', () => {
  open('a')
  for (const number of [1, 2]) showAt({ node: '1', workflow: 'b' }, 'grid', show(number), true)
  showAt({ node: '1', workflow: 'b' }, 'text', show(3))
  showAt({ node: '2', workflow: 'b' }, 'grid', show(4), true)
  showAt({ node: '2', workflow: 'c' }, 'grid', show(5), true)
  catchUp()
  assert.deepEqual(shown, [])
  open('b')
  catchUp()
  assert.deepEqual(shown, [[1, 2, true], [1, 3, false], [2, 4, true]])
  catchUp()
  assert.equal(shown.length, 3)
  endWaiting()
  open('c')
  catchUp()
  assert.deepEqual(shown.at(-1), [2, 5, false])
})

test('something that came for the workflow since it was opened takes the place of what waits', () => {
  open('a')
  showAt({ node: '1', workflow: 'b' }, 'text', show(1))
  open('b')
  showAt({ node: '1', workflow: 'b' }, 'text', show(2))
  catchUp()
  assert.deepEqual(shown, [[1, 2, false]])
})

test('a tab that comes to the front after its workflow was opened gets what waits for it', (t) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.after(() => mock.timers.reset())
  open('a', { path: 'second' })
  showAt({ node: '1', workflow: 'a', tab: { path: 'first' } }, 'text', show(1))
  catchUp()
  mock.timers.tick(1000)
  assert.deepEqual(shown, [])
  open('a', { path: 'first' })
  mock.timers.tick(1000)
  assert.deepEqual(shown, [[1, 1, false]])
})
