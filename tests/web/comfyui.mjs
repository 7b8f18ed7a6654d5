// What the modules in web/ import from ComfyUI's page, for tests in node: `node --import ./tests/web/comfyui.mjs`.
// ../../scripts/NAME.js resolves to stubs/NAME.mjs, and web/*.js are ES modules without a package.json saying so.
import { registerHooks } from 'node:module'

const COMFYUI = /^\.\.\/\.\.\/scripts\/(\w+)\.js$/
const OURS = new URL('../../web/', import.meta.url).href

registerHooks({
  resolve(specifier, context, next) {
    const found = context.parentURL?.startsWith(OURS) && COMFYUI.exec(specifier)
    if (found) return next(new URL(`stubs/${found[1]}.mjs`, import.meta.url).href, context)
    const resolved = next(specifier, context)
    return resolved.url.startsWith(OURS) ? { ...resolved, format: 'module' } : resolved
  }
})
