"""A node that changes its model in place, like PuLID-Flux. The tests' server loads it as a pack."""


class ThirdPartyPatcher:
    """Scales what the model predicts, in the model that it was given, and returns that."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "patch"
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "scale": ("FLOAT", {"default": 1.0})}}

    def patch(self, model, scale: float):
        def scaled(apply_model, about):
            return apply_model(about["input"], about["timestep"], **about["c"]) * scale

        model.set_model_unet_function_wrapper(scaled)
        return (model,)


NODE_CLASS_MAPPINGS = {"Third-Party Patcher": ThirdPartyPatcher}
