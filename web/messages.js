// @ts-check
// Errors and warnings of our nodes, in the words of the node: the page's own notice of an error doesn't have them.
import { app } from '../../scripts/app.js'
import { nodeAt, rootGraph } from './graph.js'
import { showFailure } from './result_text.js'

const WARNING_LIFE = 20_000 // milliseconds; errors stay until they are closed, or until the next run

/** @type {Map<string, any>} the toasts that are shown, by the id of their node */
const shown = new Map()

/**
 * Say why a node failed: in its box and in a toast. Also for other packs' nodes that run ours (Efficiency's KSampler).
 * @param {any} error the detail of ComfyUI's event execution_error
 */
export function showError({ node_id, node_type, exception_type, exception_message }) {
  if (!/^(XY: )?PM /.test(node_type) && exception_type !== 'LoraError') return
  const node = nodeAt(rootGraph(), node_id)
  const message = exception_message.trim()
  if (node) showFailure(node, message)
  const title = node?.title ?? node_type
  toast(String(node_id), { severity: 'error', summary: title, detail: message })
  closeNotice(title)
}

/**
 * Close the notice of front ends since 1.40 that the node has failed: it lies below ours and doesn't say why. One about
 * several errors stays.
 * @param {string} title of the node
 */
function closeNotice(title) {
  const close = () => {
    const notice = document.querySelector('[data-testid="error-overlay"]')
    if (!notice?.textContent?.includes(title)) return
    /** @type {HTMLElement | null} */ (notice.querySelector('[data-testid="error-overlay-dismiss"]'))?.click()
  }
  // once the page has drawn it
  globalThis.requestAnimationFrame?.(() => requestAnimationFrame(close))
}

/**
 * Show a node's warnings in a toast.
 * @param {any} node
 * @param {string[]} warnings
 */
export function showWarnings(node, warnings) {
  toast(String(node.id), { severity: 'warn', summary: node.title, detail: warnings.join('\n'), life: WARNING_LIFE })
}

/** Remove the toasts of the run before. */
export function clearMessages() {
  for (const message of shown.values()) app.extensionManager?.toast?.remove(message)
  shown.clear()
}

/**
 * One toast for each node: a new one takes the place of the old one.
 * @param {string} id
 * @param {any} message
 */
function toast(id, message) {
  const toasts = app.extensionManager?.toast
  if (shown.has(id)) toasts?.remove(shown.get(id))
  shown.set(id, message)
  toasts?.add(message)
}
