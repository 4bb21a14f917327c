"""How far a job is, told to whoever waits."""

from shared.progress import SILENT, Lines, told


def test_lines_say_how_many_of_how_many_and_how_fast(capsys):
    """On standard error; not for each page."""
    now = [100.0]
    lines = Lines("profile", lambda: now[0])
    lines.expect(30_000)
    lines.phase("folding")
    lines.advance(2_000)
    now[0] += 10
    lines.advance(8_000)
    lines.advance(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "profile: folding, 10,000 of 30,000 events, 1,000 events/s\n"


def test_programs_are_told_nothing(capsys):
    """With --json."""
    with told("profile", quiet=True) as nobody:
        assert nobody is SILENT
        nobody.expect(1)
        nobody.advance(1)
        nobody.phase("folding")
    with told("profile", quiet=False) as lines:
        assert isinstance(lines, Lines)
    assert capsys.readouterr() == ("", "")
