"""What is said on the screen must never cost the result it speaks of."""

import os
import subprocess
import sys

import pytest

RUN = """
import sys, charlstm
{before}
corpus = charlstm.load_corpus({path!r})
charlstm.import_tensorflow_quietly()
ids = corpus.vocabulary.encode(corpus.text)
model = charlstm.build_model(len(corpus.vocabulary), 4, 6)
history = charlstm.train(model, charlstm.make_dataset(ids, 20, 8), epochs=1, held_out_ids=ids[:50])
open({result!r}, "w").write(str(len(history["loss"]) + len(corpus)))
"""


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp949"])
def test_a_screen_that_lacks_the_characters(tmp_path, encoding):
    run(tmp_path, "pass", encoding)


TEE = "type('Tee', (), {'write': lambda self, text: None, 'flush': lambda self: None})()"


@pytest.mark.parametrize("screen", ["None", TEE])
def test_no_screen_at_all(tmp_path, screen):  # as under pythonw, in a service, or where a program has put its own
    run(tmp_path, f"sys.stdout = sys.stderr = {screen}")


def run(tmp_path, before, encoding="utf-8"):
    path, result = tmp_path / "emoji 가.txt", tmp_path / "result"
    path.write_text("🐺🐑 가나다 für the goose-girl " * 40, encoding="utf-8")
    code = RUN.format(before=before, path=str(path), result=str(result))
    variables = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    process = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=False)
    assert process.returncode == 0, process.stderr.decode(errors="replace")
    assert result.read_text() == str(1 + len(path.read_text(encoding="utf-8")))
    if before == "pass":
        assert b"1 epoch" in process.stdout or b"epoch 1 of 1" in process.stdout
