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
grimm_cells: set[str] = set()
grimm_cells_passed: set[str] = set()


def pytest_report_header() -> str:
    return f"charlstm notebooks: {said.getvalue().strip()}"


def pytest_collectstart(collector) -> None:
    if isinstance(collector, IPyNbFile):
        # What C++ libraries write to the error stream differs from machine to machine.
        collector.skip_compare += ("stderr",)


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if isinstance(item, IPyNbCell) and "grimm" in item.cell.metadata.get("tags", []):
            grimm_cells.add(item.nodeid)
            if corpus_name != "grimm":
                item.options["check"] = False


def pytest_runtest_logreport(report) -> None:
    if report.when == "call" and report.passed and report.nodeid in grimm_cells:
        grimm_cells_passed.add(report.nodeid)


def pytest_terminal_summary(terminalreporter) -> None:
    compared = len(grimm_cells_passed) if corpus_name == "grimm" else 0
    terminalreporter.write_line(f"Grimm figures: {compared} cells compared, {len(grimm_cells) - compared} not compared")
