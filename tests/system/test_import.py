"""`samla import`: a file through the door; killed in the middle, and done twice."""

import json
import os
import signal
import subprocess
import sys

import pytest

from shared.local.suite import ROOT
from tests.system.world import eventually
from tests.unit.console.test_import_examples import EXAMPLES, FOLDER, file_of

MAPPING = {
    "type": "track", "event": "Imported", "id": ["order"],
    "time": {"column": "datum", "format": "%Y-%m-%d %H:%M", "zone": "Europe/Stockholm"},
    "columns": {"kund": "userId", "belopp": {"to": "properties.revenue", "as": "number", "decimal": ","}},
}  # fmt: skip


@pytest.fixture
def source(world):
    """A source of this test's own."""
    made = world.ask("collector", "create_source", f"source-{world.fresh()}", "first")
    world.key = made["write_key"]
    return made["source"]


def exported(path, users, rows):
    """As a Swedish Excel writes it."""
    lines = ["kund;order;datum;belopp"]
    lines += [f"{users[n % len(users)]};{users[0]}-{n};2026-01-{n % 28 + 1:02} 10:00;{n % 100},50" for n in range(rows)]
    path.write_bytes("\r\n".join(lines).encode("cp1252"))


def command(world, path, *more):
    return [
        sys.executable, "-m", "services.console.cli", "import", str(path), "--mapping", json.dumps(MAPPING),
        "--write-key", world.key, "--json", *more,
    ]  # fmt: skip


def test_a_file_is_proposed_tried_and_sent_and_twice_changes_nothing(world, source, tmp_path):
    """The same file, and one that holds the same rows and a few more."""
    users = [world.fresh() for _ in range(3)]
    path = tmp_path / "order.csv"
    exported(path, users, 30)
    assert world.samla("import", str(path), "--propose")
    shown = world.samla("import", str(path), "--mapping", json.dumps(MAPPING), "--dry-run", "--json")
    assert shown["sample"][0]["userId"] == users[0] and shown["sample"][0]["timestamp"] == "2026-01-01T10:00:00+01:00"
    assert shown["sample"][1]["properties"] == {"revenue": 1.5} and (shown["rows"], shown["accepted"]) == (30, 30)
    report = world.samla(*command(world, path)[3:])
    assert (report["rows"], report["skipped"], report["set_aside"]) == (30, 0, 0)
    assert world.samla(*command(world, path)[3:])["skipped"] == 30
    exported(path, users, 33)
    assert world.samla(*command(world, path)[3:])["skipped"] == 0
    world.quiet()
    assert [world.count(each, "Imported") for each in users] == [11, 11, 11]


def test_killed_in_the_middle_and_run_again_every_row_counts_once(world, source, tmp_path):
    """SIGKILL as soon as something has been sent."""
    users = [world.fresh() for _ in range(5)]
    path = tmp_path / "order.csv"
    exported(path, users, 20_000)
    running = subprocess.Popen(command(world, path), cwd=ROOT, env=world.suite.environment, stdout=subprocess.DEVNULL)
    marks = world.suite.home / "imports"
    before = set(marks.glob("*.json")) if marks.exists() else set()
    eventually(lambda: marks.exists() and set(marks.glob("*.json")) - before, 30, "nothing was sent", 0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    report = world.samla(*command(world, path)[3:])
    assert 0 < report["skipped"] < 20_000 and report["rows"] == 20_000
    world.quiet()
    assert [world.count(each, "Imported") for each in users] == [4_000] * 5


def test_a_key_that_nobody_has_is_one_clear_line(world, source, tmp_path):
    path = tmp_path / "order.csv"
    exported(path, ["u"], 3)
    world.key = "nobody"
    done = subprocess.run(
        command(world, path), cwd=ROOT, env=world.suite.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode and "no source has this write key" in done.stderr and "Traceback" not in done.stderr


def test_the_examples_make_a_profile_of_four_parts(world, source, tmp_path):
    """People, CRM, orders and a survey, as the page about imports has them; a second time they change nothing."""
    for name in EXAMPLES:
        arguments = ["--mapping", f"@{FOLDER / f'{name}.json'}", "--write-key", world.key, "--json"]
        report = world.samla("import", str(file_of(name, tmp_path)), *arguments)
        assert report["messages"] and not report["set_aside"], report
    world.quiet()
    before = world.samla("profile", "show", "email:anna.berg@example.org", "--json")
    assert {kind: [each["value"] for each in before["identity"][kind]] for kind in ("user", "crm_id", "phone")} == {
        "user": ["1001"], "crm_id": ["K-88"], "phone": ["+46701740605"],
    }  # fmt: skip
    assert before["quantitative"]["Order Completed"]["minor_units"] == {"SEK": 168_450}
    known = {name: said["value"] for name, said in before["descriptive"].items()}
    assert known | {"country": "SE", "birthday": "1980-03-25", "tier": "gold", "firstName": "Anna"} == known
    answers = {question: said["value"]["answer"] for question, said in before["qualitative"].items()}
    assert answers == {
        "How satisfied are you with the delivery?": 4,
        "How likely are you to recommend us?": 9,
        "What could we do better?": "Open earlier, and pack in paper",
    }
    assert world.samla("privacy", "consents", "user:1001", "--json")
    for path in (world.suite.home / "imports").glob("*.json"):
        path.unlink()
    for name in EXAMPLES:
        arguments = ["--mapping", f"@{FOLDER / f'{name}.json'}", "--write-key", world.key, "--json"]
        assert world.samla("import", str(file_of(name, tmp_path)), *arguments)["skipped"] == 0
    world.quiet()
    assert world.samla("profile", "show", "email:anna.berg@example.org", "--json") == before
