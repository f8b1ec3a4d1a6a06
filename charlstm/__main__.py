"""python -m charlstm [MODEL]: a model as a web page, opened in the browser."""

import argparse
import tempfile
import webbrowser
from pathlib import Path

from charlstm.console import say
from charlstm.files import PRETRAINED, read_model_file
from charlstm.page import save_page


def main() -> None:
    parser = argparse.ArgumentParser("python -m charlstm", description="Write a model's web page, and open it.")
    parser.add_argument("model", type=Path, nargs="?", help="a .safetensors file, beside which the page will lie")
    parser.add_argument("--no-browser", action="store_true", help="only write the page")
    arguments = parser.parse_args()
    model = arguments.model or PRETRAINED
    folder = model.expanduser().parent if arguments.model else Path(tempfile.mkdtemp(prefix="charlstm-"))
    page = folder.absolute() / f"{model.stem}.html"
    try:
        save_page(page, *read_model_file(model))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    say(f"The model's page is {page}: open it in any browser, or take it with you.")
    if not arguments.no_browser:
        webbrowser.open(page.as_uri())


if __name__ == "__main__":
    main()
