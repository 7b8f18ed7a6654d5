import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { detailsOf, factsOf, forgetFacts, loraFiles, overview, previewUrl } from '../../web/lora_facts.js'
import { api } from './stubs/api.mjs'

const NAME = 'styles/ink & wash.safetensors'
const PATH = '/lora_power_merger/facts?name=styles%2Fink%20%26%20wash.safetensors'

beforeEach(() => {
  forgetFacts()
  api.asked = []
  api.answers = {}
})

test('a file is asked about once, until it is to be asked again', async () => {
  api.answers[PATH] = { summary: 'SD 1.5' }
  assert.deepEqual(await factsOf(NAME), { summary: 'SD 1.5' })
  await factsOf(NAME)
  assert.deepEqual(api.asked, [PATH])
  forgetFacts('other.safetensors')
  await factsOf(NAME)
  assert.equal(api.asked.length, 1)
  forgetFacts(NAME)
  await factsOf(NAME)
  assert.equal(api.asked.length, 2)
})

test('a server without the route, or none at all, is an error to show', async () => {
  assert.deepEqual(await factsOf('a'), { error: 'The server answered 404.' })
  api.answers['/lora_power_merger/facts?name=b'] = new Error('offline')
  assert.deepEqual(await factsOf('b'), { error: 'The server does not answer.' })
  assert.deepEqual(await loraFiles(), [])
})

test('names are escaped in every address', async () => {
  await detailsOf(NAME)
  await overview()
  assert.deepEqual(api.asked, [`/lora_power_merger/facts?details=1&${PATH.split('?')[1]}`, '/lora_power_merger/facts'])
  assert.equal(previewUrl('a&b.pt'), '/api/lora_power_merger/preview?name=a%26b.pt')
})
