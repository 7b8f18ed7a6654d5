// @ts-check
// Makes a node large enough to read the picture that it shows. ComfyUI gives a picture a height of 220 pixels, in which
// the text of a tall one can't be read.

const WIDTH = 480
const SLOT_HEIGHT = 20
const PADDING = 30
const MAX_HEIGHT = 1600

/** The size of the picture that a node was last made large enough for. @type {WeakMap<object, string>} */
const fitted = new WeakMap()

/**
 * Enlarge a node for a picture of a new size. A node that the user made smaller since stays as it is until then.
 * @param {any} node
 * @param {[width: number, height: number]} picture in pixels
 */
export function makeRoomForPicture(node, [width, height]) {
  const size = `${width}x${height}`
  if (fitted.get(node) === size) return
  fitted.set(node, size)
  const slots = Math.max(node.inputs?.length ?? 0, node.outputs?.length ?? 0)
  const wide = Math.max(node.size[0], WIDTH)
  const tall = Math.min(MAX_HEIGHT, slots * SLOT_HEIGHT + PADDING + (wide * height) / width)
  node.setSize([wide, Math.max(node.size[1], Math.round(tall))])
  node.setDirtyCanvas?.(true, true)
}
