"""The fonts of the pictures, from the `fontpkg-*` packages of the package index.

Each package holds one family from Google Fonts with its licence: the SIL Open Font License 1.1, or the Apache License
2.0 for those marked so. The repository ships no font: they are downloaded once into a folder and read from there.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".evidence" / "fonts"


@dataclass(frozen=True)
class Font:
    package: str  # on the package index, with its version: another version may draw other outlines
    file: str  # in the package
    licence: str = "OFL-1.1"


# By the name that a prompt calls the font. Variable fonts are drawn in their default instance. Pacifico goes
# without its last letter: CLIP has one token for that and for the letter o of a prompt.
FONT_FILES = {
    "abril fatface": Font("fontpkg-abril-fatface==1.1", "AbrilFatface-Regular.ttf"),
    "alfa slab": Font("fontpkg-alfa-slab-one==2.0", "AlfaSlabOne-Regular.ttf"),
    "anton": Font("fontpkg-anton==2.116", "Anton-Regular.ttf"),
    "black ops": Font("fontpkg-black-ops-one==1.4", "BlackOpsOne-Regular.ttf"),
    "bungee": Font("fontpkg-bungee==2.0", "Bungee-Regular.ttf"),
    "caveat": Font("fontpkg-caveat==2.0", "Caveat[wght].ttf"),
    "comfortaa": Font("fontpkg-comfortaa==3.105", "Comfortaa[wght].ttf"),
    "crimson text": Font("fontpkg-crimson-text==1.100", "CrimsonText-Regular.ttf"),
    "indie flower": Font("fontpkg-indie-flower==2.0", "IndieFlower-Regular.ttf"),
    "lobster": Font("fontpkg-lobster==2.100", "Lobster-Regular.ttf"),
    "orbitron": Font("fontpkg-orbitron==2.1", "Orbitron[wght].ttf"),
    "permanent marker": Font("fontpkg-permanent-marker==1.1", "PermanentMarker-Regular.ttf", "Apache-2.0"),
    "press start": Font("fontpkg-press-start-2p==3.0", "PressStart2P-Regular.ttf"),
    "righteous": Font("fontpkg-righteous==1.0", "Righteous-Regular.ttf"),
    "satisfy": Font("fontpkg-satisfy==1.1", "Satisfy-Regular.ttf", "Apache-2.0"),
    "space mono": Font("fontpkg-space-mono==1.3", "SpaceMono-Regular.ttf"),
    "teko": Font("fontpkg-teko==2.0", "Teko[wght].ttf"),
    "yellowtail": Font("fontpkg-yellowtail==1.2", "Yellowtail-Regular.ttf", "Apache-2.0"),
    # The styles: no picture of the base's training uses them.
    "gravitas": Font("fontpkg-gravitas-one==1.1", "GravitasOne.ttf"),
    "great vibes": Font("fontpkg-great-vibes==1.103", "GreatVibes-Regular.ttf"),
    "luckiest guy": Font("fontpkg-luckiest-guy==1.1", "LuckiestGuy-Regular.ttf", "Apache-2.0"),
    "pacific": Font("fontpkg-pacifico==3.1", "Pacifico-Regular.ttf"),
    "shadows into light": Font("fontpkg-shadows-into-light==1.0", "ShadowsIntoLight.ttf"),
    "unbounded": Font("fontpkg-unbounded==1.701", "Unbounded[wght].ttf"),
}


def font_file(name: str, folder: Path = FOLDER) -> Path:
    """The font's TTF, downloaded with all others of FONT_FILES on the first call.

    Raises KeyError for an unknown name, SystemExit if the download fails.
    """
    file = folder / FONT_FILES[name].file
    if not file.is_file():
        download_fonts(list(FONT_FILES.values()), folder)
    return file


def download_fonts(fonts: Sequence[Font], folder: Path = FOLDER) -> None:
    """Download packages with this Python's pip and unpack their fonts and licences into ``folder``.

    The 24 of FONT_FILES are 4 MB. Raises SystemExit if the download fails.
    """
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    packages = [font.package for font in fonts]
    print(f"Downloading {len(packages)} fonts into {folder} (only once)", flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*pip, "--dest", str(wheels), *packages], capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip() or "no message").splitlines()[-1]
        raise SystemExit(
            f"The benchmark draws its pictures with {len(packages)} fonts from the package index, and pip could not "
            f"download them: {reason}\nConnect to the index, then run the same command again."
        )
    wanted = {font.file for font in fonts}
    for wheel in wheels.glob("*.whl"):
        _unpack(wheel, wanted, folder)


def _unpack(wheel: Path, wanted: Container[str], folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            package, _, file = name.partition("/")
            if file.removeprefix("files/") in wanted:
                (folder / Path(file).name).write_bytes(archive.read(name))
            elif file == "LICENSE":
                (folder / f"{package}-LICENSE.txt").write_bytes(archive.read(name))
