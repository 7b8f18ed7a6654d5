"""A stack node like those of other packs: it doesn't notice changed files. The tests' server loads it as a pack."""


class ThirdPartyStacker:
    RETURN_TYPES = ("LORA_STACK",)
    FUNCTION = "stack"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"names": ("STRING", {"default": ""})}}

    def stack(self, names: str):
        return ([(name, 1.0, 1.0) for name in names.split()],)


NODE_CLASS_MAPPINGS = {"Third-Party LoRA Stacker": ThirdPartyStacker}
