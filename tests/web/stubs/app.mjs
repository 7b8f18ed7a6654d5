/** ComfyUI's app: it keeps the extensions that are registered and the toasts that are shown. */
export const app = {
  /** @type {any[]} */
  extensions: [],
  configuringGraph: false,
  /** @type {any} */
  rootGraph: { nodes: [] },
  /** @param {any} extension */
  registerExtension(extension) {
    this.extensions.push(extension)
  },
  extensionManager: {
    toast: {
      /** @type {any[]} */
      shown: [],
      /** @param {any} message */
      add(message) {
        this.shown.push(message)
      },
      /** @param {any} message */
      remove(message) {
        this.shown = this.shown.filter((/** @type {any} */ each) => each !== message)
      }
    }
  },
  /** Makers of widgets by type: a text box with its element. */
  widgets: {
    /**
     * @param {any} node
     * @param {string} name
     * @param {[string, object]} spec
     */
    STRING(node, name, [, options]) {
      const widget = { name, value: '', options: { ...options }, inputEl: { readOnly: false } }
      node.widgets.push(widget)
      return { widget }
    }
  }
}
