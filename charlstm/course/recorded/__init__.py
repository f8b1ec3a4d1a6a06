"""Long runs that the notebooks and README quote, each with when and on what it ran. ``tools/record/`` makes them."""

import json
from pathlib import Path

RECORDED = Path(__file__).parent


def read_recorded(name: str) -> dict:
    """What is recorded under ``name``: ``"book"``, ``"changes"``, ``"memory"``, ``"better"``,
    ``"better_island"``, ``"choices"``, ``"attention"`` or ``"speed"``."""
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
