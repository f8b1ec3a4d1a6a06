"""What stands on the screen beside results: messages, progress bars, TensorFlow's start-up lines."""

import contextlib
import math
import numbers
import os
import platform
import sys


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without the lines about drivers and optimizations that its C++ code writes at every start.

    No setting silences those of the import itself (seen in TensorFlow 2.21), so that the process's standard error
    stream leads nowhere for as long as it takes. Errors are Python exceptions and come through.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # for the lines after the import
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # there is no such stream in a service, or under pythonw
            standard_error = os.dup(2)
            stack.callback(os.close, standard_error)
            stack.callback(os.dup2, standard_error, 2)
            os.dup2(stack.enter_context(open(os.devnull, "w", encoding="utf-8")).fileno(), 2)
        import tensorflow  # noqa: F401


def choose_backend() -> None:
    """Let Keras compute with TensorFlow, and TensorFlow with oneDNN on every PC: on its own it does so on newer processors
    only. Has an effect only before they are imported; ``TF_ENABLE_ONEDNN_OPTS=0`` in the environment refuses oneDNN.

    Raises ImportError if Keras is to use another backend, or does already.
    """
    os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"  # Keras passes an empty one by, too
    if platform.machine() in ("x86_64", "AMD64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    keras = sys.modules.get("keras")
    if (backend := keras.config.backend() if keras else os.environ["KERAS_BACKEND"]) != "tensorflow":
        advice = "before the first import, set os.environ['KERAS_BACKEND'] = 'tensorflow' (in a notebook: restart it)"
        raise ImportError(f"charlstm needs Keras with TensorFlow, and here it is with {backend!r}: {advice}")


def say(message: str) -> None:
    """Print ``message``, whatever the screen can show: no message is worth the loss of the result it speaks of."""
    with contextlib.suppress(Exception):  # a closed pipe, or what a program has put in place of the screen
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        print(message.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def someone_watches() -> bool:
    """Whether a person may look on, so that a progress bar has a meaning: a terminal, JupyterLab or Colab."""
    # Tests and `jupyter execute` use the same kernel as JupyterLab or Colab, but without a keyboard.
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "get_parent"):
        return shell.get_parent().get("content", {}).get("allow_stdin", False)
    return getattr(sys.stdout, "isatty", bool)()  # bool() is False


def check_number(name: str, value: float, least: float, most: float = math.inf, whole: bool = False) -> None:
    """Raises TypeError or ValueError, in words, unless ``value`` is a finite number, or a whole one, within the limits."""
    if not isinstance(value, numbers.Integral if whole else numbers.Real):
        raise TypeError(f"{name} must be a {'whole ' * whole}number, not {value!r}")
    if not (least <= value <= most and math.isfinite(value)):
        limits = f"at least {least}" + f" and at most {most}" * (most < math.inf)
        raise ValueError(f"{name} must be {limits}, but is {value}")
