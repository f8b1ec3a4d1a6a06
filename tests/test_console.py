"""What is said on the screen must never cost the result it speaks of."""

import io
import subprocess
import sys

import pytest

import charlstm

TEE = type("Tee", (), {"write": lambda self, text: None, "flush": lambda self: None})()


@pytest.mark.parametrize("screen", [None, TEE, io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_no_screen_or_a_programs_own_or_one_that_lacks_the_characters(tmp_path, monkeypatch, screen):
    path = tmp_path / "emoji 가.txt"
    path.write_text("🐺🐑 가나다 für the goose-girl " * 40, encoding="utf-8")
    with monkeypatch.context() as patch:
        for name in "stdout", "stderr":
            patch.setattr(sys, name, screen)
        corpus = charlstm.load_corpus(path)
        ids = corpus.vocabulary.encode(corpus.text)
        model = charlstm.build_model(len(corpus.vocabulary), 4, 6)
        history = charlstm.train(model, charlstm.make_dataset(ids, 20, 8), None, 1, ids[:50], sample_prompt="🐺")
    assert len(history["loss"]) == 1 and corpus.text == path.read_text(encoding="utf-8")
    assert screen in (None, TEE) or b"1 of 1" in screen.buffer.getvalue()


def test_no_error_stream_at_all():  # as in a service
    code = "import charlstm as c, os, sys; sys.modules['tensorflow'] = sys; os.close(2); c.import_tensorflow_quietly()"
    subprocess.run([sys.executable, "-c", code], check=True)
