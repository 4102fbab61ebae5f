import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.simulator.fidelity.figures import Column, Figure, Table
from latentcraft.simulator.fidelity.page import decode_png, encode_png, page, write_html
from latentcraft.simulator.fidelity.report import Report, groups, read_json, table_text, write_json

NAN = float("nan")


def make_report() -> Report:
    columns = [Column(f"psnr@{time}", f"PSNR, {time}", "dB", "higher", 1) for time in ("0.2s", "1s", "10s")]
    columns += [Column("wall", "Walking into a wall stops", "%", "higher", 0)]
    dream = {
        "psnr@0.2s": Figure(25.04, 24.0, 26.0, 8),
        "psnr@1s": Figure(20.0, 18.9, 21.2, 8),
        "wall": Figure(50, 25, 75, 12),
    }
    floor = {"psnr@0.2s": Figure(15.0, 14.0, 16.0, 8), "psnr@1s": Figure(14.0, 13.0, 15.0, 8),
             "psnr@10s": Figure(12.0, NAN, NAN, 1), "wall": Figure(NAN, NAN, NAN, 0)}  # fmt: skip
    table = Table("replay", "Replay <fidelity>", columns, {"dream": dream, "copy-last floor": floor}, "a & b")
    timings = Table(
        "timings", "Time", [Column("step@10s", "Step, 10 s", "ms")], {"dream": {"step@10s": Figure(80, NAN, NAN, 9)}}
    )
    return Report({"mode": "quick", "seed": 900000}, [table], {"seconds": {"replay: dream": 3.5}}, timings)


def test_columns_of_one_quantity_are_a_group_with_times():
    made = groups(make_report().tables[0].columns)
    assert [(group.title, len(group.columns), group.times) for group in made] == [
        ("PSNR", 3, [0.2, 1.0, 10.0]), ("Walking into a wall stops", 1, None),
    ]  # fmt: skip


def test_text_shows_every_row_with_interval_and_count():
    text = table_text(make_report().tables[0])
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "PSNR [dB], higher is better, n = 1 to 8" in text
    assert "25.0 [24.0, 26.0] n=8" in lines["dream"] and "20.0 [18.9, 21.2] n=8" in lines["dream"]
    assert lines["copy-last floor"].endswith("12.0 n=1"), "no interval where there is none"
    assert re.search(r"Walking into a wall stops \[%\] +50 \[25, 75\] n=12 +– n=0", text)


def test_cases_that_are_no_times_are_lines():
    columns = [Column(f"f1@{button}", f"F1 by button, {button}", "", "higher") for button in ("forward", "jump")]
    rows = {"dream": {"f1@forward": Figure(0.5, 0.4, 0.6, 8), "f1@jump": Figure(0.25, 0.1, 0.4, 8)}}
    lines = table_text(Table("action", "Action", columns, rows)).splitlines()
    assert lines[1].startswith("F1 by button, higher is better")
    assert lines[-2].split() == ["forward", "0.50", "[0.40,", "0.60]", "n=8"] and lines[-1].startswith("jump")


def test_json_is_read_as_it_was_written(tmp_path: Path):
    path, report = tmp_path / "r" / "report.json", make_report()
    write_json(path, report)
    strict = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert strict["tables"][0]["rows"]["dream"]["psnr@1s"] == {"value": 20.0, "low": 18.9, "high": 21.2, "count": 8}
    back = read_json(path)
    assert back.to_json() == report.to_json()
    assert math.isnan(back.tables[0].rows["copy-last floor"]["psnr@10s"].low)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"format": "latentcraft-evaluation-1"}'])
def test_what_is_no_report_is_named(text: str, tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match="x.json"):
        read_json(path)
    with pytest.raises(UserError, match="none.json"):
        read_json(tmp_path / "none.json")


def test_the_page_needs_no_other_file_and_is_the_same_twice(tmp_path: Path):
    pytest.importorskip("matplotlib")
    strips = {"seed 900000": np.full((8, 16, 3), 77, np.uint8)}
    text = page(make_report(), strips)
    assert text == page(make_report(), strips)
    assert "Replay &lt;fidelity&gt;" in text and "a &amp; b" in text
    assert text.count("<svg") == 1 and "25.0 <small>[24.0, 26.0] n=8</small>" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and all(f'id="{ref}"' in text for ref in re.findall(r'href="#([^"]+)"', text))
    picture = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert picture and (decode_png(picture[1]) == 77).all()
    write_html(tmp_path / "report.html", make_report(), strips)
    assert (tmp_path / "report.html").read_text() == text


def test_pictures_survive_as_png():
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    assert (decode_png(encode_png(picture)) == picture).all()
