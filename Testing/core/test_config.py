"""Files and folders are replaced whole or not at all."""

import json
from pathlib import Path

import pytest

from xray2ctpa_core.config import append_json_line, read_json_lines, replacing, write_json, write_json_lines
from xray2ctpa_core.errors import InputError


def test_a_folder_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "runs" / "network"
    for content in ("old", "new"):
        with replacing(place) as partial:
            partial.mkdir()
            (partial / f"{content}.txt").write_text(content)
            assert {p.name for p in place.parent.iterdir()} == {partial.name} | (
                set() if content == "old" else {"network"}
            )
    assert [p.name for p in place.iterdir()] == ["new.txt"]
    assert [p.name for p in place.parent.iterdir()] == ["network"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "rows.npz"
    place.write_text("old")

    def write() -> None:
        with replacing(place) as partial:
            assert partial.suffix == ".npz"
            partial.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("rows.npz", "old")]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as partial:
        name = partial.name
        partial.mkdir()
    (tmp_path / name).mkdir()
    (tmp_path / name / "half.txt").write_text("of a killed process")
    with replacing(tmp_path / "folder") as partial:
        assert not partial.exists()
        partial.mkdir()
    assert [list(p.iterdir()) for p in tmp_path.iterdir()] == [[]]


def test_json_is_written_as_an_object_or_a_line_a_record(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"number": 1.5})
    write_json_lines(tmp_path / "b.jsonl", ({"number": number} for number in (1, 2)))
    assert json.loads((tmp_path / "a.json").read_text()) == {"number": 1.5}
    assert (tmp_path / "b.jsonl").read_text() == '{"number": 1}\n{"number": 2}\n'


def test_a_line_that_a_kill_cut_off_is_none_and_the_next_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "run" / "rows.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"number": 1})
    with path.open("a") as file:
        file.write('{"numb')
    assert read_json_lines(path) == [{"number": 1}]
    append_json_line(path, {"number": 2})
    assert read_json_lines(path) == [{"number": 1}, {"number": 2}]


def test_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"number": 1}\n3\n')
    with pytest.raises(InputError, match="line 2"):
        read_json_lines(tmp_path / "rows.jsonl")
