// @ts-check
// The picture on PM XY Grid's node: the cells so far while they are sampled, then the grid, in which a click picks a
// cell. PM Find Strengths and PM Reference Pictures show theirs in the same way, without a pick. Page elements, the same
// on both canvases.
import { api } from '../../scripts/api.js'
import { app } from '../../scripts/app.js'
import { button, element, isolate } from './elements.js'
import { boxOf, cellsOf, fileNameOf, layoutOf, placeOf, recipeOfCell, statusOf, textOf, totalOf } from './grid_cells.js'
import { planText } from './grid_plan.js'
import { widgetOf } from './graph.js'
import { copy, placeBelow, tell, toast } from './menu.js'
import { loraFiles } from './lora_facts.js'
import { planOf } from './recipe_nodes.js'
import { resultComes } from './undo_history.js'

/** @typedef {import('./grid_cells.js').State} State */

export const SAVED = 'xy_grid' // in the node's properties
const MARGIN = 18 // of the picture, left and right together
const LINE = 22
const PANEL = 126
const MAX_SAVED = 300_000 // characters
const ARROWS = /** @type {Record<string, [number, number]>} */ ({
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1]
})

/** The elements of one node. */
export class GridView {
  /** @param {any} node */
  constructor(node) {
    this.node = node
    /** @type {any} */
    this.widget = null
    /** @type {State | null} */
    this.state = null
    this.running = false
    /** the cell that Tab stops at */
    this.focused = '1,1'
    /** @type {Map<string, any>} buttons by cell */
    this.buttons = new Map()
    this.drawn = ''
    this.fitted = 0
    this.fresh = false // whether it shows a run of this page, rather than what was saved
    this.status = element('p', { class: 'pm-grid-status', role: 'status' })
    this.progress = element('div')
    this.bar = element('div', { class: 'pm-grid-bar', hidden: '' }, [this.progress])
    this.image = element('img', { alt: '', hidden: '', draggable: 'false' })
    this.image.addEventListener('error', () => this.showImage(false))
    this.image.addEventListener('load', () => this.showImage(true))
    this.cells = element('div', { role: 'grid', 'aria-label': 'Cells. Enter picks one.' })
    this.stage = element('div', { class: 'pm-grid-stage', hidden: '' }, [this.image, this.cells])
    this.stage.addEventListener('wheel', zoom)
    this.stage.addEventListener('keydown', (/** @type {any} */ event) => this.move(event))
    this.about = element('pre', { class: 'pm-grid-about', tabindex: '0', 'aria-label': 'Settings of the picked cell' })
    this.make = button("Make this cell's nodes", () => void this.makeNodes(), {})
    const buttons = [button('Copy settings', () => void this.copySettings(), {}), this.make]
    buttons.push(button('Unpick', () => this.pick(''), {}))
    this.panel = element('div', { class: 'pm-grid-panel', hidden: '' }, [
      this.about,
      element('div', { class: 'pm-grid-buttons' }, buttons)
    ])
    const more = { class: 'pm-grid-open', target: '_blank', title: 'Open the picture in a tab of its own', hidden: '' }
    this.open = element('a', more, ['Open'])
    this.root = element('div', { class: 'pm-grid', role: 'group', 'aria-label': 'Grid' }, [
      element('div', { class: 'pm-grid-line' }, [this.status, this.open]),
      this.bar,
      this.stage,
      this.panel
    ])
    isolate(this.root)
    // text that can be selected, and scrolled
    for (const type of ['pointerdown', 'mousedown', 'pointermove', 'wheel']) {
      this.about.addEventListener(type, (/** @type {any} */ event) => event.stopPropagation())
    }
  }

  /** what the elements need at the node's width */
  get height() {
    const picture = this.state ? (this.node.size[0] - MARGIN) / layoutOf(this.state).aspect + 4 : 0
    return Math.round(LINE + picture + (this.panel.hidden ? 0 : PANEL) + 8)
  }

  get picked() {
    return placeOf(widgetOf(this.node, 'pick')?.value)
  }

  pickedCell() {
    return this.state?.cells?.find(({ cell }) => cell === this.picked) ?? null
  }

  /**
   * Show a state, and keep it for when the workflow is opened again.
   * @param {State} state
   * @param {boolean} [running]
   */
  keep(state, running = false) {
    const { node: _, workflow: _workflow, ...kept } = /** @type {any} */ (state)
    resultComes(this.node, SAVED)
    this.fresh = true
    this.node.properties ??= {}
    const small = JSON.stringify(kept).length < MAX_SAVED ? kept : { ...kept, cells: undefined }
    this.node.properties[SAVED] = { ...small, now: null, seconds_left: null, running: false, memory: '' }
    this.show(kept, running)
  }

  /**
   * @param {State | null} state
   * @param {boolean} running
   */
  show(state, running) {
    this.state = state
    this.running = running
    this.render()
  }

  end() {
    if (!this.running) return
    this.running = false
    if (this.state) this.state.now = null
    this.render()
  }

  render() {
    const { state } = this
    this.stage.hidden = !state
    if (state) this.renderCells(state)
    const cell = this.pickedCell()
    this.panel.hidden = !cell
    if (cell) {
      this.about.textContent = textOf(cell)
      this.make.hidden = !recipeOfCell(cell)
    }
    this.renderStatus()
    this.resize()
  }

  /** What a run would sample, and of the last run: the number where it can't be counted before, and much memory. */
  planText() {
    const parts = [planText(this.node)]
    if (this.state && parts[0].includes('?')) parts.push(`${totalOf(this.state)} in the last run`)
    if (this.state?.memory) parts.push(`the output cells takes ${this.state.memory} of memory`)
    return parts.filter(Boolean).join('; ')
  }

  renderStatus() {
    const { state } = this
    const plan = this.planText()
    const picked = state && cellsOf(state).find(({ place }) => place === this.picked)
    const said = state ? statusOf(state, this.running) : ''
    let text = said || plan
    if (!said && picked) text = `Picked ${picked.place}: ${picked.label}${plan ? ` (${plan})` : ''}`
    else if (!said && this.picked) text = `pick is ${this.picked}, which is no cell of this grid`
    this.status.textContent = text
    this.status.title = text
    this.status.classList.toggle('pm-bad', /max_cells|no cell of/.test(text))
    this.bar.hidden = !this.running
    if (state) this.progress.style.width = `${(100 * state.done.length) / totalOf(state)}%`
  }

  /** @param {State} state */
  renderCells(state) {
    const layout = layoutOf(state)
    const cells = cellsOf(state)
    const drawn = JSON.stringify([layout, state.size, state.columns, state.rows])
    if (drawn !== this.drawn) {
      this.drawn = drawn
      this.stage.style.aspectRatio = String(layout.aspect)
      this.buttons.clear()
      const made = cells.map(({ place, column, row, label }) => {
        const one = button('', () => this.pick(this.picked === place ? '' : place), {
          role: 'gridcell',
          'aria-label': `column ${column + 1}, row ${row + 1}: ${label}`,
          title: `${place}: ${label}`,
          tabindex: '-1',
          'data-cell': place
        })
        Object.assign(one.style, boxOf(layout, column, row))
        one.disabled = !widgetOf(this.node, 'pick')
        one.addEventListener('focus', () => this.focusable(place))
        this.buttons.set(place, one)
        return one
      })
      this.cells.replaceChildren(...made)
      if (!this.buttons.has(this.focused)) this.focused = '1,1'
    }
    for (const [place, one] of this.buttons) {
      one.setAttribute('aria-selected', String(place === this.picked))
      one.classList.toggle('pm-now', this.running && place === state.now)
      one.setAttribute('tabindex', place === this.focused ? '0' : '-1')
    }
    const address = state.picture ? viewUrl(state.picture) : ''
    if (this.image.getAttribute('src') !== address) {
      if (address) this.image.setAttribute('src', address)
      else {
        this.image.removeAttribute('src')
        this.showImage(false)
      }
    }
    this.open.hidden = !address
    this.open.setAttribute('href', address)
    this.image.alt = `Grid of ${state.size[0]} x ${state.size[1]} cells`
  }

  /** @param {boolean} shown whether there is a picture: the temp folder is emptied when ComfyUI starts */
  showImage(shown) {
    this.image.hidden = !shown
    this.stage.classList.toggle('pm-empty', !shown)
    if (!shown) this.open.hidden = true
    for (const [place, one] of this.buttons) one.textContent = shown ? '' : place
  }

  /** @param {string} place */
  focusable(place) {
    this.buttons.get(this.focused)?.setAttribute('tabindex', '-1')
    this.focused = place
    this.buttons.get(place)?.setAttribute('tabindex', '0')
  }

  /** @param {any} event a key */
  move(event) {
    const step = ARROWS[event.key]
    if (!step) return
    event.preventDefault()
    const [column, row] = this.focused.split(',').map(Number)
    const next = this.buttons.get(`${column + step[0]},${row + step[1]}`)
    next?.focus()
  }

  /**
   * Write a cell into the widget, as one change that undo takes back.
   * @param {string} place
   */
  pick(place) {
    const widget = widgetOf(this.node, 'pick')
    if (!widget) return
    const slot = (this.node.inputs ?? []).findIndex((/** @type {any} */ input) => input.widget?.name === 'pick')
    if (slot >= 0 && this.node.isInputConnected(slot)) {
      toast('warn', 'The cell comes from the node that is connected to pick. Disconnect it to pick by a click.')
      return
    }
    app.canvas?.emitBeforeChange?.()
    widget.value = place
    widget.callback?.(place, app.canvas, this.node)
    app.canvas?.emitAfterChange?.()
    this.render()
    this.node.setDirtyCanvas?.(true, true)
  }

  async copySettings() {
    const cell = this.pickedCell()
    if (!cell) return
    await copy(textOf(cell))
    toast('success', `The settings of cell ${cell.cell} are in the clipboard.`)
  }

  async makeNodes() {
    const cell = this.pickedCell()
    const recipe = cell && recipeOfCell(cell)
    if (!recipe) return
    try {
      await placeBelow(planOf(recipe, await loraFiles(), fileNameOf(cell)), this.node)
    } catch (error) {
      tell(/** @type {Error} */ (error))
    }
  }

  /** Make the node as tall as its elements need, once for each height: a node that the user made smaller stays so. */
  resize() {
    const needed = this.node.computeSize?.()[1] ?? 0
    if (Math.abs(needed - this.fitted) < 2) return
    const [width, height] = this.node.size
    if (height < needed || height <= this.fitted + 1) {
      if (this.fresh) resultComes(this.node)
      this.node.setSize([width, needed])
    }
    this.fitted = needed
    this.node.setDirtyCanvas?.(true, true)
  }
}

/**
 * The wheel zooms the canvas over the picture too. In Nodes 2.0 the page itself passes it on.
 * @param {any} event
 */
function zoom(event) {
  if (!globalThis.LiteGraph?.vueNodesMode) app.canvas?.processMouseWheel?.(event)
}

/** @param {Record<string, string>} picture */
function viewUrl({ filename, subfolder = '', type = 'temp' }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
}
