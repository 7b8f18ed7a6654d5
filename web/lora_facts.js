// @ts-check
// Asks our server what LoRA files are (nodes/facts_route.py). Answers are kept until the page is told to ask again.
import { api } from '../../scripts/api.js'

const ROOT = '/lora_power_merger'

/** @type {Map<string, Promise<any>>} */
const asked = new Map()

/**
 * Family, rank, size, trigger words and fitting presets of a file; {error} if it is gone or no LoRA.
 * @param {string} file
 * @returns {Promise<any>}
 */
export function factsOf(file) {
  const answer = asked.get(file) ?? get(`${ROOT}/facts?name=${encodeURIComponent(file)}`)
  asked.set(file, answer)
  return answer
}

/**
 * The same with norm and recipe, always asked again: it reads the whole file.
 * @param {string} file
 * @returns {Promise<any>}
 */
export const detailsOf = (file) => get(`${ROOT}/facts?details=1&name=${encodeURIComponent(file)}`)

/**
 * Family and summary of every file.
 * @returns {Promise<Record<string, any>>}
 */
export const overview = () => get(`${ROOT}/facts`)

/**
 * The files in ComfyUI's loras folders.
 * @returns {Promise<string[]>}
 */
export async function loraFiles() {
  const found = await get('/models/loras')
  return Array.isArray(found) ? found : []
}

/** @param {string} file */
export const previewUrl = (file) => api.apiURL(`${ROOT}/preview?name=${encodeURIComponent(file)}`)

/**
 * Ask again from now on, about one file or all: they may have changed.
 * @param {string} [file]
 */
export const forgetFacts = (file) => (file === undefined ? asked.clear() : void asked.delete(file))

/** @param {string} path */
async function get(path) {
  try {
    const response = await api.fetchApi(path)
    return response.ok ? await response.json() : { error: `The server answered ${response.status}.` }
  } catch {
    return { error: 'The server does not answer.' }
  }
}
