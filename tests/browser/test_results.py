"""What a user sees of a run: results that stay, errors and warnings in words, and new files in the lists."""

from __future__ import annotations

import torch
from lora_pack.tests.browser.canvas import NODES2, SCREENSHOTS, Canvas
from lora_pack.tests.browser.test_growing_inputs import LOADER, merger_with
from lora_pack.tools.comfy_server import PACK_FOLDER, Server
from lora_pack.tools.workflows import CHECKPOINT
from safetensors.torch import load_file, save_file

SAVE, APPLY, RESIZE = "PM LoRA Save", "PM LoRA Apply", "PM LoRA Resizer"


def run(canvas: Canvas) -> None:
    """Queue the workflow and wait for its end, good or bad."""
    canvas.page.evaluate(
        """() => new Promise((resolve) => {
            const { api } = window.comfyAPI.api
            const names = ['execution_success', 'execution_error']
            const end = () => { names.forEach((name) => api.removeEventListener(name, end)); resolve() }
            names.forEach((name) => api.addEventListener(name, end))
            pm.queue()
        })"""
    )
    canvas.call("frame")


def toasts(canvas: Canvas) -> list[str]:
    """The texts of the toasts, by now."""
    canvas.call("frame")
    return [text.strip() for text in canvas.page.locator(".p-toast-message").all_inner_texts()]


def close_dialogs(canvas: Canvas) -> None:
    """Front ends before 1.40 show an error in a dialog as well."""
    if canvas.page.locator(".p-dialog").count():
        canvas.page.keyboard.press("Escape")
        canvas.page.locator(".p-dialog").first.wait_for(state="hidden")


def result(canvas: Canvas, node: int) -> str:
    return canvas.call("widgets", node)["result"]


def saved_from(canvas: Canvas, node: int, name: str) -> int:
    save = canvas.call("add", SAVE, 1000, 150)
    canvas.call("choose", save, "file_name", name)
    canvas.call("connect", node, save, "lora")
    return save


def test_an_error_stands_on_its_node_and_in_one_toast(canvas: Canvas):
    merger, (_, b) = merger_with(canvas, 2)
    canvas.call("choose", b, "lora_name", "b.safetensors")
    canvas.call("choose", merger, "mode", "ties")
    canvas.call("choose", merger, "density", 0)
    saved_from(canvas, merger, "refused")
    for _ in range(2):
        run(canvas)
        close_dialogs(canvas)
        wanted = "density is 0, at which ties keeps nothing of any LoRA. Choose a value above 0"
        assert result(canvas, merger).startswith(f"Error: {wanted}")
        canvas.page.locator(".p-toast-message", has_text=wanted).first.wait_for()
        canvas.until("document.querySelectorAll('.p-toast-message-error').length < 2")
        assert sum(wanted in text for text in toasts(canvas)) == 1
        assert "PM Merge LoRA" in next(text for text in toasts(canvas) if wanted in text)
        # the page's own notice, which has no reason in it, gives way
        canvas.until("!document.querySelector('[data-testid=error-overlay]')")
    canvas.screenshot(SCREENSHOTS / f"error-{canvas.kind}.png")
    if canvas.kind == NODES2:
        canvas.until("pm.drawn(argument).some(text => text.startsWith('Error: density is 0'))", merger)
    canvas.call("choose", merger, "density", 0.5)
    run(canvas)
    # on the second canvas the merge is cached, and the page has to look for its text
    canvas.until("pm.widget(argument, 'result').value.startsWith('SD 1.5, 84 modules, rank 8, ')", merger)
    canvas.until("!document.querySelector('.p-toast-message-error')")


def test_the_error_of_a_node_without_a_box_is_a_toast(canvas: Canvas, server: Server):
    (server.loras / "broken_in_page.safetensors").write_bytes(b"no file of tensors")
    canvas.page.evaluate("() => window.comfyAPI.app.app.refreshComboInNodes()")
    merger, (a,) = merger_with(canvas, 1)
    saved_from(canvas, merger, "refused")
    canvas.call("choose", a, "lora_name", "broken_in_page.safetensors")
    run(canvas)
    # 0.3.75's front end shows a dialog with the name of the exception
    shown = canvas.page.locator("body").inner_text()
    assert "errors.LoraError" not in shown and "custom_nodes" not in shown
    canvas.screenshot(SCREENSHOTS / f"error-loader-{canvas.kind}.png")
    close_dialogs(canvas)
    canvas.page.locator(".p-toast-message-error", has_text="is not a complete safetensors file").wait_for()
    assert result(canvas, merger) == ""
    canvas.call("choose", a, "lora_name", "a.safetensors")
    run(canvas)
    canvas.until("!document.querySelector('.p-toast-message-error')")


def test_modules_that_do_not_fit_are_a_warning(canvas: Canvas, server: Server):
    state = load_file(server.loras / "a.safetensors")
    for side in ("up", "down"):
        state[f"lora_unet_imagined.lora_{side}.weight"] = torch.ones(4, 4)
    save_file(state, server.loras / f"partial_{canvas.kind}.safetensors")
    checkpoint = canvas.call("add", "CheckpointLoaderSimple", 100, 100, {"ckpt_name": CHECKPOINT})
    loader = canvas.call("add", LOADER, 100, 300, {"lora_name": f"partial_{canvas.kind}.safetensors"})
    apply = canvas.call("add", APPLY, 600, 150)
    canvas.call("connect", checkpoint, apply, "model")
    canvas.call("connect", checkpoint, apply, "clip", 1)
    canvas.call("connect", loader, apply, "lora")
    canvas.call("connect", apply, canvas.call("add", "PreviewAny", 1000, 150), "source")
    run(canvas)
    assert result(canvas, apply).startswith("84 of 85 modules applied.")
    toast = canvas.page.locator(".p-toast-message-warn", has_text="84 of 85 modules applied.")
    toast.wait_for()
    assert "PM Apply LoRA" in toast.inner_text()
    canvas.screenshot(SCREENSHOTS / f"warning-{canvas.kind}.png")


def test_results_survive_saving_opening_copying_and_a_cached_run(canvas: Canvas):
    merger, (a, b) = merger_with(canvas, 2)
    canvas.call("choose", a, "lora_name", "a.safetensors")
    canvas.call("choose", b, "lora_name", "b.safetensors")
    canvas.call("choose", b, "strength_model", 0.61 if canvas.kind == NODES2 else 0.62)
    resize = canvas.call("add", RESIZE, 600, 650, {"new_rank": 4})
    canvas.call("connect", merger, resize, "lora")
    save = saved_from(canvas, resize, f"results/{canvas.kind}")
    run(canvas)
    texts = {node: result(canvas, node) for node in (merger, resize, save)}
    assert "\n2 LoRAs: a x 1.0, b x 0.6" in texts[merger]
    assert " -> 4, " in texts[resize] and texts[resize].endswith("% of the norm lost")
    assert texts[save] == f"results/{canvas.kind}.safetensors"
    canvas.screenshot(SCREENSHOTS / f"kept-{canvas.kind}.png")
    for again in ("reload", "run"):
        canvas.call("reload") if again == "reload" else run(canvas)
        assert {node: result(canvas, node) for node in texts} == texts, again
    if canvas.kind == NODES2:
        canvas.until("pm.drawn(argument[0]).includes(argument[1])", [merger, texts[merger]])
    (copy,) = canvas.call("paste", [resize])
    assert result(canvas, copy) == texts[resize]
    # the page as loaded anew, with a workflow from before the run: the server doesn't send the texts of cached nodes
    canvas.page.evaluate(
        "ids => ids.forEach(id => { delete pm.node(id).properties.result; pm.widget(id, 'result').value = '' })",
        [merger, resize],
    )
    run(canvas)
    for node in (merger, resize):
        canvas.until("pm.widget(argument[0], 'result').value === argument[1]", [node, texts[node]])
    assert "result" not in canvas.prompt()[str(merger)]["inputs"]


def test_a_saved_path_is_not_broken_into_two_lines(canvas: Canvas):
    loader = canvas.call("add", LOADER, 200, 150)
    name = f"some folder of styles/the-merged-style-number-two-of-{canvas.kind}"
    save = saved_from(canvas, loader, name)
    run(canvas)
    assert result(canvas, save) == f"{name}.safetensors"
    canvas.screenshot(SCREENSHOTS / f"path-{canvas.kind}.png")
    lines = canvas.page.evaluate(
        """() => [...document.querySelectorAll('textarea')].filter(({ value }) => value.endsWith('.safetensors'))
            .map((area) => {
                const style = getComputedStyle(area)
                const context = document.createElement('canvas').getContext('2d')
                context.font = style.font
                const inner = area.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
                return context.measureText(area.value).width / inner
            })"""
    )
    assert lines and max(lines) <= 1


def test_a_saved_file_is_in_every_list_without_a_reload(canvas: Canvas):
    loader = canvas.call("add", LOADER, 200, 150)
    canvas.call("choose", loader, "lora_name", "a.safetensors")
    others = {
        "PM LoRA Stack": ["lora_1", "lora_4"],
        "XY: PM LoRA Strengths": ["lora_a", "lora_b"],
        "LoraLoader": ["lora_name"],
    }
    nodes = {canvas.call("add", kind, 200, 500): names for kind, names in others.items()}
    (inner,) = [canvas.call("toSubgraph", [canvas.call("add", LOADER, 900, 700)])]
    folder = canvas.call("add", "PM LoRA from Folder", 600, 700)
    saved_from(canvas, loader, f"aa-{canvas.kind}/fresh")
    run(canvas)
    file = f"aa-{canvas.kind}/fresh.safetensors"
    listed = "pm.widget(argument[0], argument[1]).options.values.includes(argument[2])"
    canvas.until(listed, [loader, "lora_name", file])
    canvas.until(listed, [folder, "folder", f"aa-{canvas.kind}"])
    canvas.until(listed, [canvas.call("innerId", inner, LOADER), "lora_name", file])
    nodes |= {canvas.call("add", kind, 900, 500): names for kind, names in others.items()}
    nodes[canvas.call("add", LOADER, 900, 150)] = ["lora_name"]
    for node, names in nodes.items():
        for name in names:
            canvas.until(listed, [node, name, file])
    assert canvas.call("widgets", loader)["lora_name"] == "a.safetensors"
    if canvas.kind == NODES2:  # the list as drawn
        combo = canvas.page.locator(f'[data-node-id="{loader}"]').get_by_text("a.safetensors")
        combo.first.click()
        canvas.page.get_by_text(file).first.wait_for()
        canvas.screenshot(SCREENSHOTS / "new-file-nodes2.png")
        canvas.page.keyboard.press("Escape")
    canvas.call("choose", loader, "lora_name", file)
    run(canvas)
    assert toasts(canvas) == []


def test_a_baked_model_is_in_the_lists_without_a_reload(canvas: Canvas, server: Server):
    checkpoint = canvas.call("add", "CheckpointLoaderSimple", 100, 600, {"ckpt_name": CHECKPOINT})
    loader = canvas.call("add", LOADER, 100, 150, {"lora_name": "a.safetensors"})
    name = f"zz-{canvas.kind}"
    widgets = {"model_file": f"checkpoints/{CHECKPOINT}", "file_name": name}
    bake = canvas.call("add", "PM LoRA Bake", 600, 150, widgets)
    canvas.call("connect", loader, bake, "lora")
    run(canvas)
    assert result(canvas, bake).startswith(f"checkpoints/{name}.safetensors\n84 tensors changed.")
    listed = "pm.widget(argument[0], argument[1]).options.values.includes(argument[2])"
    canvas.until(listed, [bake, "model_file", f"checkpoints/{name}.safetensors"])
    canvas.until(listed, [checkpoint, "ckpt_name", f"{name}.safetensors"])
    extract = canvas.call("add", "PM LoRA Extract", 1100, 150)
    canvas.until(listed, [extract, "tuned", f"checkpoints/{name}.safetensors"])
    assert canvas.call("widgets", checkpoint)["ckpt_name"] == CHECKPOINT
    canvas.screenshot(SCREENSHOTS / f"baked-{canvas.kind}.png")
    (server.checkpoints / f"{name}.safetensors").unlink()


def test_the_page_has_no_complaint_about_what_the_pack_imports(browser, canvas: Canvas):
    """ComfyUI warns of scripts that are no part of its public interface when they are imported."""
    page = browser.new_context().new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(canvas.server.url)
    page.wait_for_function("window.app?.vueAppReady && window.app.extensions.some(e => e.name === 'LoraPowerMerger')")
    page.context.close()
    assert [text for text in said if "internal module" in text or PACK_FOLDER in text] == []
