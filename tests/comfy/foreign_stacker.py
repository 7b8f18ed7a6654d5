"""A stack node as other packs have it: the tests' server loads this file as a pack. It doesn't notice changed files."""


class ForeignStacker:
    RETURN_TYPES = ("LORA_STACK",)
    FUNCTION = "stack"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"names": ("STRING", {"default": ""})}}

    def stack(self, names: str):
        return ([(name, 1.0, 1.0) for name in names.split()],)


NODE_CLASS_MAPPINGS = {"Foreign LoRA Stacker": ForeignStacker}
