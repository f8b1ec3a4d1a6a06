"""How nbval compares the notebooks' outputs.

Cells tagged `nbval-check-output` are compared with what is committed; the others only have to run. Cells tagged `grimm`
as well show figures of Grimm's text, so they are compared where this text can be had. Where it can't, the notebooks run
on the bundled tales, and the first and the last lines of pytest's report say so.
"""

import contextlib
import io

from nbval.plugin import IPyNbCell, IPyNbFile

import charlstm

said = io.StringIO()
with contextlib.redirect_stdout(said):
    corpus_name = charlstm.load_corpus().name
figures_of_grimm: dict[str, bool] = {}  # cell: did it run and show what is committed?


def pytest_report_header() -> str:
    return f"charlstm notebooks: {said.getvalue().strip()}"


def pytest_collectstart(collector) -> None:
    if isinstance(collector, IPyNbFile):
        # What C++ libraries write to the error stream differs from machine to machine.
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if isinstance(item, IPyNbCell) and "grimm" in item.cell.metadata.get("tags", []):
            item.user_properties.append(("shows figures of", "grimm"))  # goes with the report
            if corpus_name != "grimm":
                item.options["check"] = False


def pytest_runtest_logreport(report) -> None:
    if report.when == "call" and ("shows figures of", "grimm") in map(tuple, report.user_properties):
        figures_of_grimm[report.nodeid] = report.passed and corpus_name == "grimm"


def pytest_terminal_summary(terminalreporter) -> None:
    compared = sum(figures_of_grimm.values())
    terminalreporter.write_line(
        f"Grimm figures: {compared} cells compared, {len(figures_of_grimm) - compared} not compared"
    )
