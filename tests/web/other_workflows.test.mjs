import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { endWaiting, isElsewhere, takeWaiting, wait } from '../../web/other_workflows.js'
import { app } from './stubs/app.mjs'

const open = (/** @type {string | undefined} */ id) => (app.rootGraph = { nodes: [], id })

beforeEach(() => {
  for (const id of ['a', 'b']) {
    open(id)
    takeWaiting()
  }
})

test('a state is elsewhere only if both workflows are known and differ', () => {
  open('a')
  assert.equal(isElsewhere({ node: '3', workflow: 'b' }), true)
  assert.equal(isElsewhere({ node: '3', workflow: 'a' }), false)
  assert.equal(isElsewhere({ node: '3', workflow: null }), false)
  open(undefined)
  assert.equal(isElsewhere({ node: '3', workflow: 'b' }), false)
})

test('the last state of each node waits for its workflow, once', () => {
  open('a')
  for (const number of [1, 2]) wait(/** @type {any} */ ({ node: '3', workflow: 'b', number }), true)
  wait({ node: '4', workflow: 'b' }, true)
  wait({ node: '3', workflow: 'c' }, true)
  assert.deepEqual(takeWaiting(), [])
  endWaiting()
  open('b')
  const taken = takeWaiting()
  assert.deepEqual(taken.map(({ state }) => [state.node, /** @type {any} */ (state).number]), [['3', 2], ['4', undefined]])
  assert.ok(taken.every(({ running }) => !running))
  assert.deepEqual(takeWaiting(), [])
})
