"""Fills in the date where a file name asks for it, in the spelling of ComfyUI's own save nodes.

%year%, %month%, %day%, %hour%, %minute% and %second% are those of its server (folder_paths.get_save_image_path).
%date:yyyy-MM-dd% is its page's, which replaces it for its own nodes only (formatDate in ComfyUI_frontend).
"""

from __future__ import annotations

import re
import time

_PARTS = {
    "year": "%Y",
    "month": "%m",
    "day": "%d",
    "hour": "%H",
    "minute": "%M",
    "second": "%S",
}
_PLACEHOLDER = re.compile(rf"%(?:({'|'.join(_PARTS)})|date:([^%]+))%")
_IN_FORMAT = re.compile("yyyy|yyy|yy|dd?|MM?|hh?|mm?|ss?")

HELP = "%year%, %month%, %day%, %hour%, %minute%, %second% and %date:yyyy-MM-dd% stand for the date."


def with_date(file_name: str, now: time.struct_time | None = None) -> str:
    """The file name with these placeholders replaced; everything else stays. ``now``: default the local time."""
    at = now or time.localtime()

    def filled(found: re.Match[str]) -> str:
        part, date_format = found.groups()
        return time.strftime(_PARTS[part], at) if part else _formatted(date_format, at)

    return _PLACEHOLDER.sub(filled, file_name)


def _formatted(date_format: str, at: time.struct_time) -> str:
    numbers = {"d": at.tm_mday, "M": at.tm_mon, "h": at.tm_hour, "m": at.tm_min, "s": at.tm_sec}

    def filled(found: re.Match[str]) -> str:
        text = found[0]
        if text[0] == "y":
            return f"{at.tm_year % 100:02}" if text == "yy" else str(at.tm_year)
        return f"{numbers[text[0]]:0{len(text)}}"

    return _IN_FORMAT.sub(filled, date_format)
