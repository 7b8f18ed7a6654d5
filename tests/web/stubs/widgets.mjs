/** ComfyUI's makers of widgets by type: a text box with its element. */
export const ComfyWidgets = {
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
