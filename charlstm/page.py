"""A model as one web page, which writes by itself: in any browser, offline."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np

from charlstm.data import Vocabulary
from charlstm.files import check_card, path_to_write, replacing, to_json
from charlstm.model import sizes_of, weights_for

TEMPLATE = Path(__file__).parent / "page.html"


def save_page(
    path: str | os.PathLike, model: "keras.Model | dict", vocabulary: Vocabulary, card: dict | None = None
) -> None:
    """Write one .html file in which the model lives: opened in any browser, offline, it writes text as ``Generator``
    does and shows what it expected at each character. It needs no server, loads nothing and sends nothing.

    model: a Keras model, or its weights by name and with the shapes of ``StepwiseLSTM.weight_shapes``. They are rounded
        to float16: two bytes a weight, 2.7 in the file, which is 4.4 MB for the textbook's model.
    card: what a reader should know of the model, shown as a table: a dictionary of anything that JSON can hold. Its
        ``"units"``, such as ``{"inside quotation marks": 191}``, names units of the LSTM (from 0), by whose cell state
        the page offers to colour the text.

    Whatever vocabulary and card hold, none of it becomes markup or code. An older page at ``path`` is replaced whole or
    not at all. Raises ValueError, TypeError or OSError like ``save_model``. Used in notebook 08_inside.
    """
    path = path_to_write(path, ".html", "<title>A model that writes</title>")
    weights = weights_for(model, vocabulary, np.float16)
    data = {
        "sizes": dict(zip(("vocab_size", "embedding_dim", "rnn_units"), sizes_of(weights), strict=True)),
        "codes": [ord(char) for char in vocabulary.chars],
        "weights": {name: base64.b64encode(weight.astype("<f2")).decode() for name, weight in weights.items()},
        "card": check_card(card),
    }
    with replacing(path) as file:
        file.write(_page(to_json(data)).encode())


def _page(data: str) -> str:
    # Browsers know neither NaN nor Infinity in JSON: they become texts. Only ASCII is left by `dumps`, and none of the
    # signs that could end the script or begin another.
    data = json.dumps(json.loads(data, parse_constant=str))
    data = data.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"})
    page = TEMPLATE.read_text(encoding="utf-8")
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'"
    for kind in "script", "style":  # the browser runs these two, known by their hashes, and nothing else
        inside = re.search(f"<{kind}>(.*?)</{kind}>", page, re.DOTALL)[1]
        policy += f"; {kind}-src 'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
    return page.replace("POLICY", policy).replace("MODEL", data)
