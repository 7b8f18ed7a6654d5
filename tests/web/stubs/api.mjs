/** ComfyUI's api: it answers with what a test put into `answers`, and keeps what was asked. */
export const api = {
  /** @type {Record<string, any>} by path */
  answers: {},
  /** @type {string[]} */
  asked: [],
  /** @param {string} path */
  apiURL: (path) => `/api${path}`,
  /** @param {string} path */
  async fetchApi(path) {
    this.asked.push(path)
    if (!(path in this.answers)) return { ok: false, status: 404, json: async () => null }
    if (this.answers[path] instanceof Error) throw this.answers[path]
    return { ok: true, status: 200, json: async () => this.answers[path] }
  }
}
