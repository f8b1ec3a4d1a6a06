"""python -m charlstm: the model in this package as a web page, opened in the browser."""

import argparse
import tempfile
import webbrowser
from pathlib import Path

from charlstm.console import say
from charlstm.model_file import PRETRAINED, read_model_file
from charlstm.page import save_page


def main() -> None:
    parser = argparse.ArgumentParser("python -m charlstm", description="Write a model's web page, and open it.")
    parser.add_argument("path", type=Path, nargs="?", help="of the page; else it lies in a new temporary folder")
    parser.add_argument("--no-browser", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    path = arguments.path or Path(tempfile.mkdtemp(prefix="charlstm-"), "charlstm.html")  # where nobody else can write
    path = path.expanduser()
    save_page(path, *read_model_file(PRETRAINED))
    say(f"The model's page is {path.absolute()}: open it in any browser, or take it with you.")
    if not arguments.no_browser:
        webbrowser.open(path.absolute().as_uri())


if __name__ == "__main__":
    main()
