// @ts-check
// Makes a node large enough to read the picture that it shows. ComfyUI gives a picture a height of 220 pixels on the
// classic canvas, and the node's width in Nodes 2.0; the text of a tall picture can be read in neither.

const SHOW_PICTURE = ['PM LoRA Inspect']
// Nodes with names of models, which are long: on a narrow node they cover the label that says which file it is.
const NAME_MODELS = ['PM LoRA Bake', 'PM LoRA Extract']
const WIDTH = 480
const SLOT_HEIGHT = 20
const PADDING = 30
const MAX_HEIGHT = 1600

/** The size of the picture that a node was last made tall enough for. @type {WeakMap<object, string>} */
const fitted = new WeakMap()

/**
 * Make a new node wide enough for its picture, or for names of models. Not only when there is a picture: Nodes 2.0 keeps the width that a node has by then.
 * @param {any} node
 */
export function widenForPicture(node) {
  if (![...SHOW_PICTURE, ...NAME_MODELS].includes(node.constructor.nodeData.name)) return
  node.setSize([Math.max(node.size[0], WIDTH), node.size[1]])
}

/**
 * Make a node tall enough for a picture of a new size. A node that the user made smaller since stays as it is until then.
 * @param {any} node
 * @param {[width: number, height: number]} picture in pixels
 */
export function makeRoomForPicture(node, [width, height]) {
  const size = `${width}x${height}`
  if (fitted.get(node) === size) return
  fitted.set(node, size)
  const slots = Math.max(node.inputs?.length ?? 0, node.outputs?.length ?? 0)
  const tall = Math.min(MAX_HEIGHT, slots * SLOT_HEIGHT + PADDING + (node.size[0] * height) / width)
  node.setSize([node.size[0], Math.max(node.size[1], Math.round(tall))])
  node.setDirtyCanvas?.(true, true)
}
