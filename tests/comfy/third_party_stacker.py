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


class ThirdPartyRestacker:
    """Reads the three values of each entry and makes new tuples of them."""

    RETURN_TYPES = ("LORA_STACK",)
    FUNCTION = "restack"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"lora_stack": ("LORA_STACK",)}}

    def restack(self, lora_stack: list):
        return ([(name, model, clip) for name, model, clip in lora_stack if name != "None"],)


class AnyType(str):
    """Fits every input, as other packs' wildcards do."""

    def __ne__(self, other: object) -> bool:
        return False


class ThirdPartyText:
    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "give"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def give(self, text: str):
        return (text,)


NODE_CLASS_MAPPINGS = {
    "Third-Party Text": ThirdPartyText,
    "Third-Party LoRA Stacker": ThirdPartyStacker,
    "Third-Party Restacker": ThirdPartyRestacker,
}
