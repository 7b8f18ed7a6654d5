// @ts-check
// A node that shows a picture is wide enough to read it, and grows tall enough once for each size of picture.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeRoomForPicture, widenForPicture } from '../../web/picture_size.js'

/**
 * @param {[number, number]} size
 * @param {string} name
 */
function makeNode(size, name = 'PM LoRA Inspect') {
  class Node {
    static nodeData = { name }
    size = size
    inputs = [{}, {}, {}, {}]
    outputs = [{}, {}]
    /** @param {[number, number]} size */
    setSize(size) {
      this.size = size
    }
  }
  return new Node()
}

test('a new node is wide enough to read a picture', () => {
  const node = makeNode([225, 120])
  widenForPicture(node)
  assert.ok(node.size[0] >= 400)
  assert.equal(node.size[1], 120)
})

test('a new node is wide enough for the names of models and their labels', () => {
  for (const name of ['PM LoRA Bake', 'PM LoRA Extract']) {
    const node = makeNode([225, 120], name)
    widenForPicture(node)
    assert.ok(node.size[0] >= 400)
  }
})

test('other nodes keep their width', () => {
  const node = makeNode([225, 120], 'PM LoRA Merger')
  widenForPicture(node)
  assert.deepEqual(node.size, [225, 120])
})

test('a node grows until the picture fits its width', () => {
  const node = makeNode([480, 120])
  makeRoomForPicture(node, [1000, 1500])
  assert.equal(node.size[0], 480)
  assert.ok(node.size[1] >= (480 * 1500) / 1000 + 4 * 20, 'the picture is scaled down')
})

test('a node that is large enough keeps its size', () => {
  const node = makeNode([900, 1600])
  makeRoomForPicture(node, [1000, 1000])
  assert.deepEqual(node.size, [900, 1600])
})

test('a node that the user made smaller stays small until the picture changes', () => {
  const node = makeNode([480, 120])
  makeRoomForPicture(node, [1000, 1500])
  node.size = [480, 200]
  makeRoomForPicture(node, [1000, 1500])
  assert.deepEqual(node.size, [480, 200])
  makeRoomForPicture(node, [1000, 1400])
  assert.ok(node.size[1] > 200)
})

test('a very tall picture does not make an endless node', () => {
  const node = makeNode([480, 120])
  makeRoomForPicture(node, [1000, 20000])
  assert.ok(node.size[1] <= 2000)
})
