// @ts-check
// A node grows to show a picture, once for each size of picture.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRoomForPicture } from '../../web/picture_size.js'

/** @param {[number, number]} size */
const makeNode = (size) => ({
  size,
  inputs: [{}, {}, {}, {}],
  outputs: [{}, {}],
  /** @param {[number, number]} size */
  setSize(size) {
    this.size = size
  }
})

test('a node grows until the picture fits its width', () => {
  const node = makeNode([300, 120])
  makeRoomForPicture(node, [1000, 1500])
  assert.ok(node.size[0] >= 400, 'too narrow to read')
  assert.ok(node.size[1] >= (node.size[0] * 1500) / 1000 + 4 * 20, 'the picture is scaled down')
})

test('a node that is large enough keeps its size', () => {
  const node = makeNode([900, 1600])
  makeRoomForPicture(node, [1000, 1000])
  assert.deepEqual(node.size, [900, 1600])
})

test('a node that the user made smaller stays small until the picture changes', () => {
  const node = makeNode([300, 120])
  makeRoomForPicture(node, [1000, 1500])
  node.size = [200, 200]
  makeRoomForPicture(node, [1000, 1500])
  assert.deepEqual(node.size, [200, 200])
  makeRoomForPicture(node, [1000, 1400])
  assert.ok(node.size[1] > 200)
})

test('a very tall picture does not make an endless node', () => {
  const node = makeNode([300, 120])
  makeRoomForPicture(node, [1000, 20000])
  assert.ok(node.size[1] <= 2000)
})
