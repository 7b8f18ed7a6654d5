/** ComfyUI's api: events, and answers to requests by path. */
export const api = {
  /** @type {Map<string, ((event: any) => void)[]>} */
  listeners: new Map(),
  /** @type {Record<string, any>} what a path answers; an Error is thrown */
  answers: {},
  /** @type {string[]} */
  asked: [],
  /** @param {string} path */
  apiURL: (path) => `/api${path}`,
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
    if (!(path in this.answers)) return { ok: false, status: 404, json: async () => null }
    if (this.answers[path] instanceof Error) throw this.answers[path]
    return { ok: true, status: 200, json: async () => structuredClone(this.answers[path]) }
  }
}
