"""Saves LoRAs in processes of their own, for test_faults.py: some to be killed, some to be at it at once.

python saving.py points FOLDER                    killed at each point of a save in turn; a line of JSON for each
python saving.py moments FOLDER COUNT             killed at random moments of endless saving
python saving.py many FOLDER SEED COUNT           saves to one name as soon as there is a file FOLDER/go
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch

from merge.adapters.base import Lora, LoraModule
from merge.files import save
from merge.io import safetensors_file
from tests.support.faults import Fault, no_hard_links

NAME = "a.safetensors"


def lora(seed: int, modules: int = 4) -> Lora:
    noise = torch.Generator().manual_seed(seed)
    names = [f"lora_unet_{number}" for number in range(modules)]
    made = {
        name: LoraModule.of(
            name, torch.randn(600, 8, generator=noise), torch.randn(8, 600, generator=noise), 8.0 + seed % 2
        )
        for name in names
    }
    return Lora(f"lora{seed}", made)


def listing(folder: Path) -> dict[str, str]:
    """The files of a folder and what they hold: the digest of it, or "empty"."""
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: hashlib.sha256(data).hexdigest() if data else "empty" for name, data in contents.items()}


def report(point: int, killed: bool, folder: Path) -> None:
    print(json.dumps({"in": folder.name, "point": point, "killed": killed, "files": listing(folder)}), flush=True)


def forked(work: Callable[[], object], kill_after: float | None = None) -> int:
    """The signal that ended a child that does the work, 0 where it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the save failed by itself"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def killed_at_points(folder: Path, overwrite: bool, links: bool) -> None:
    """Prints what lies in the folder after a kill at the first point of a save, at the second, and so on to the end.

    Points are the calls of check and whatever is done to a file: open, flush to the disk, link, rename, remove.
    """
    safetensors_file.WRITE_BYTES = 9000
    if not links:
        os.link = no_hard_links  # type: ignore[assignment]
    save(lora(1), folder / NAME)
    report(0, False, folder)
    new, point = lora(2), 0
    while True:
        point += 1
        fault = Fault(lambda: os.kill(os.getpid(), signal.SIGKILL), at=point)

        def work(fault: Fault = fault) -> None:
            fault.in_file_calls()
            save(new, folder / NAME, overwrite=overwrite, check=fault)

        ended_by = forked(work)
        report(point, ended_by == signal.SIGKILL, folder)
        if not ended_by:
            return
        for name in listing(folder):
            (folder / name).unlink()
        save(lora(1), folder / NAME)


def killed_in_every_way(folder: Path) -> None:
    """killed_at_points for each way to save, in a folder for each, such as `overwrite, no links`."""
    for overwrite, links in product((False, True), repeat=2):
        inside = folder / f"{'overwrite' if overwrite else 'keep'}, {'links' if links else 'no links'}"
        inside.mkdir()
        # in a fork, since os.link stays replaced
        assert forked(lambda inside=inside, way=(overwrite, links): killed_at_points(inside, *way)) == 0


def killed_at_moments(folder: Path, count: int) -> None:
    safetensors_file.WRITE_BYTES = 9000
    moments = random.Random(1)
    both = [lora(1), lora(2)]
    for one in both:
        save(one, folder / NAME, overwrite=True)
        report(-1, False, folder)

    def work() -> None:
        while True:
            for one in both:
                save(one, folder / NAME, overwrite=True)

    for number in range(count):
        ended_by = forked(work, kill_after=moments.uniform(0.0, 0.05))
        report(number, ended_by == signal.SIGKILL, folder)


def save_many(folder: Path, seed: int, count: int) -> None:
    new = lora(seed, modules=1)
    for number in range(count):
        (folder.parent / f"{seed} {number}").touch()
        while not (folder.parent / f"{3 - seed} {number}").exists():
            pass  # both go on within microseconds
        print(save(new, folder / NAME).name, flush=True)


def main(command: str, folder: Path, *numbers: int) -> None:
    torch.set_num_threads(1)  # a process with threads can't be forked
    if command == "points":
        killed_in_every_way(folder)
    elif command == "moments":
        killed_at_moments(folder, numbers[0])
    else:
        save_many(folder, *numbers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
