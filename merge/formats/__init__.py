"""State dict <-> Lora: one file per adapter family, their layouts, scales and key styles. Knows nothing of merging."""

from .reader import FAMILIES, from_state_dict
from .writer import to_file, to_peft_file, to_state_dict

__all__ = ["FAMILIES", "from_state_dict", "to_file", "to_peft_file", "to_state_dict"]
