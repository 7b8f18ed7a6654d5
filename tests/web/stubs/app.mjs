/** ComfyUI's app: it keeps the extensions that are registered. */
export const app = {
  /** @type {any[]} */
  extensions: [],
  configuringGraph: false,
  /** @type {any} */
  rootGraph: { nodes: [] },
  /** @param {any} extension */
  registerExtension(extension) {
    this.extensions.push(extension)
  }
}
