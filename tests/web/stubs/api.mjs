/** ComfyUI's api: events, and answers to requests by path. */
export const api = {
  /** @type {Map<string, ((event: any) => void)[]>} */
  listeners: new Map(),
  /** @type {Record<string, any>} what a path answers */
  answers: {},
  /** @type {string[]} */
  asked: [],
  /**
   * @param {string} name
   * @param {(event: any) => void} listener
   */
  addEventListener(name, listener) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener])
  },
  /**
   * @param {string} name
   * @param {any} [detail]
   */
  dispatch(name, detail) {
    for (const listener of this.listeners.get(name) ?? []) listener({ detail })
  },
  /** @param {string} path */
  async fetchApi(path) {
    this.asked.push(path)
    return { json: async () => structuredClone(this.answers[path]) }
  }
}
