// @ts-check
// Errors and warnings of our nodes, in the words of the node: the page's own notice of an error doesn't have them.
import { app } from '../../scripts/app.js'
import { isOurs, nodeAt, rootGraph } from './graph.js'
import { isElsewhere, showAt } from './other_workflows.js'
import { showFailure } from './result_text.js'
import { whenKnown } from './runs.js'

const WARNING_LIFE = 20_000 // milliseconds; errors stay until they are closed, or until the next run

/** @type {Map<string, any>} the toasts that are shown, by the id of their node */
const shown = new Map()

/**
 * Say why a node failed: in its box and in a toast. Also for other packs' nodes that run ours (Efficiency's KSampler).
 * @param {any} error the detail of ComfyUI's event execution_error
 */
export function showError({ prompt_id, node_id, node_type, exception_type, exception_message }) {
  if (!isOurs(node_type) && exception_type !== 'LoraError') return
  const message = exception_message.trim()
  whenKnown(prompt_id, (run) => {
    const place = { node: String(node_id), ...run }
    showAt(place, 'text', (node) => showFailure(node, message))
    const title = titleOf(place, run) ?? node_type
    toast(place, { severity: 'error', summary: title, detail: message })
    closeNotice(title)
  })
}

/**
 * What the user calls a node.
 * @param {import('./other_workflows.js').Place} place
 * @param {import('./runs.js').Run} run
 */
function titleOf(place, run) {
  const queued = run.nodes[place.node]?.title
  return isElsewhere(place) ? queued : (nodeAt(rootGraph(), place.node)?.title ?? queued)
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
 * @param {import('./other_workflows.js').Place} place
 * @param {import('./runs.js').Run} run
 * @param {string[]} warnings
 */
export function showWarnings(place, run, warnings) {
  const summary = titleOf(place, run) ?? run.nodes[place.node]?.type
  toast(place, { severity: 'warn', summary, detail: warnings.join('\n'), life: WARNING_LIFE })
}

/** Remove the toasts of the run before. */
export function clearMessages() {
  for (const message of shown.values()) app.extensionManager?.toast?.remove(message)
  shown.clear()
}

/**
 * One toast for each node: a new one takes the place of the old one.
 * @param {import('./other_workflows.js').Place} place
 * @param {any} message
 */
function toast(place, message) {
  const toasts = app.extensionManager?.toast
  if (isElsewhere(place)) message.summary += ', in another workflow'
  if (shown.has(place.node)) toasts?.remove(shown.get(place.node))
  shown.set(place.node, message)
  toasts?.add(message)
}
