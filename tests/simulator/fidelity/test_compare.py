from dataclasses import replace
from pathlib import Path

import pytest

from latentcraft.__main__ import main
from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.compare import Difference, comparison, differences
from latentcraft.simulator.fidelity.figures import Column, Figure, Table
from latentcraft.simulator.fidelity.report import Report, write_json

HIGHER, LOWER, NEITHER = (Column(key, key.title(), "", key) for key in ("higher", "lower", "neither"))  # type: ignore[arg-type]


def report(shift: float = 0.0, **about: object) -> Report:
    row = {key: Figure(10 + shift, 9 + shift, 12 + shift, 8) for key in ("higher", "lower", "neither")}
    floor = {"higher": Figure(5, 4, 6, 8), "lower": Figure(float("nan"), float("nan"), float("nan"), 0)}
    table = Table("t", "Table", [HIGHER, LOWER, NEITHER], {"dream": row, "floor": floor})
    return Report({"mode": "quick", "seed": 900000} | about, [table])


def test_the_noise_is_that_of_the_sides_that_face_each_other():
    difference = Difference("t", "r", HIGHER, Figure(10, 9, 12, 8), Figure(15, 11, 16, 8))
    assert difference.change == 5 and difference.noise == pytest.approx((4**2 + 2**2) ** 0.5)
    assert difference.exceeds
    assert replace(difference, a=difference.b, b=difference.a).noise == pytest.approx((2**2 + 4**2) ** 0.5)


@pytest.mark.parametrize("shift, verdicts", [
    (0.0, ["within noise"] * 3), (2.0, ["within noise"] * 3),
    (4.0, ["better", "worse", "differs"]), (-4.0, ["worse", "better", "differs"]),
])  # fmt: skip
def test_verdicts(shift: float, verdicts: list[str]):
    found = list(differences(report(), report(shift)))
    assert [each.verdict for each in found if each.row == "dream"] == verdicts
    assert [(each.column.key, each.verdict) for each in found if each.row == "floor"] == [("higher", "within noise")]


def test_only_what_exceeds_the_noise_is_listed():
    text = comparison(report(), report(4.0))
    assert "Table: dream: Higher" in text and "floor" not in text
    last = text.splitlines()[-1]
    assert last.startswith("3 of 4 figures differ by more than the noise (1 better, 1 worse, 1 differs)")
    assert "floor" in comparison(report(), report(4.0), everything=True)
    assert comparison(report(), report()).startswith("0 of 4 figures differ by more than the noise (none)")


def test_reports_of_other_games_are_pointed_out():
    assert "note: mode is quick in A and full in B" in comparison(report(), report(mode="full"))


def test_nothing_in_common_is_an_error():
    other = report()
    other.tables[0].key = "another"
    with pytest.raises(UserError, match="no figure in common"):
        comparison(report(), other)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    write_json(a, report())
    write_json(b, report(4.0))
    assert main(["evaluate", "compare", str(a), str(b)]) == 0
    assert "better" in capsys.readouterr().out
    assert main(["evaluate", "compare", str(a), str(b), "all=true"]) == 0
    assert "within noise" in capsys.readouterr().out
    assert main(["evaluate", "compare", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: latentcraft evaluate compare")
    for words in ([str(a)], [str(a), str(b), "colour=blue"], [str(a), str(tmp_path / "none.json")]):
        assert main(["evaluate", "compare", *words]) == 2
        error = capsys.readouterr().err
        assert error.startswith("latentcraft evaluate: ") and error.count("\n") == 1
