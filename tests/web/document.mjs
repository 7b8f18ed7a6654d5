// A page of the few parts that web/ uses: elements with attributes, children and listeners, and a focus.

class FakeElement {
  /** @param {string} tag */
  constructor(tag) {
    this.tag = tag
    /** @type {Record<string, string>} */
    this.attributes = {}
    /** @type {any[]} */
    this.children = []
    /** @type {Record<string, any>} */
    this.dataset = {}
    /** @type {Record<string, string>} */
    this.style = {}
    /** @type {Record<string, ((event: any) => void)[]>} */
    this.listeners = {}
    this.value = ''
    this.checked = false
    this.hidden = false
    /** @type {any} */
    this.parent = null
    const classes = () => new Set((this.attributes.class ?? '').split(' ').filter(Boolean))
    this.classList = {
      toggle: (/** @type {string} */ name, /** @type {boolean} */ on) => {
        const all = classes()
        all[on ? 'add' : 'delete'](name)
        this.attributes.class = [...all].join(' ')
      },
      contains: (/** @type {string} */ name) => classes().has(name)
    }
  }

  /**
   * @param {string} name
   * @param {string} value
   */
  setAttribute(name, value) {
    this.attributes[name] = value
    if (name.startsWith('data-')) this.dataset[name.slice(5)] = value
  }

  /** @param {string} name */
  getAttribute(name) {
    return this.attributes[name] ?? null
  }

  /** @param {string} name */
  removeAttribute(name) {
    delete this.attributes[name]
  }

  /** @param {any[]} children */
  append(...children) {
    for (const child of children) {
      if (child instanceof FakeElement) child.parent = this
      this.children.push(child)
    }
  }

  /** @param {any[]} children */
  replaceChildren(...children) {
    this.children = []
    this.append(...children)
  }

  remove() {
    this.parent?.children.splice(this.parent.children.indexOf(this), 1)
    this.parent = null
  }

  get textContent() {
    return this.children.map((child) => (child instanceof FakeElement ? child.textContent : child)).join('')
  }

  set textContent(text) {
    this.children = text ? [text] : []
  }

  /**
   * @param {string} type
   * @param {(event: any) => void} listener
   */
  addEventListener(type, listener) {
    ;(this.listeners[type] ??= []).push(listener)
  }

  /**
   * @param {string} type
   * @param {any} [event]
   */
  emit(type, event = {}) {
    const sent = { type, target: this, stopped: false, prevented: false, ...event }
    sent.stopPropagation = () => (sent.stopped = true)
    sent.preventDefault = () => (sent.prevented = true)
    for (const listener of this.listeners[type] ?? []) listener(sent)
    return sent
  }

  focus() {
    document.activeElement = this
  }

  closest() {
    return null
  }

  getBoundingClientRect() {
    return { left: 0, bottom: 0 }
  }

  /** @returns {Generator<any>} */
  *all() {
    for (const child of this.children) {
      if (!(child instanceof FakeElement)) continue
      yield child
      yield* child.all()
    }
  }

  /** @param {(element: any) => boolean} test */
  find(test) {
    return [...this.all()].find(test)
  }

  /** @param {string} selector of a class or of data-key */
  querySelector(selector) {
    const key = /^\[data-key="(.*)"\]$/.exec(selector)
    if (key) return this.find((one) => one.dataset.key === key[1]) ?? null
    return this.find((one) => one.classList.contains(selector.slice(1))) ?? null
  }
}

const document = /** @type {any} */ ({
  activeElement: null,
  createElement: (/** @type {string} */ tag) => new FakeElement(tag),
  head: new FakeElement('head'),
  body: new FakeElement('body'),
  getElementById: (/** @type {string} */ id) =>
    [...document.head.all(), ...document.body.all()].find((one) => one.attributes.id === id) ?? null,
  querySelector: (/** @type {string} */ selector) => document.body.querySelector(selector)
})
globalThis.document = document

/** Let promises that are under way finish. */
export const settled = () => new Promise((resolve) => setTimeout(resolve))
export { document }
