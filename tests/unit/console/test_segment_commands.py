"""`samla segment why`: an explanation as rows."""

from services.console.segment_commands import lines


def test_an_explanation_is_a_row_a_part_moved_in_by_its_depth_with_instants_that_people_read():
    bought = {"event": "Bought", "count": {"gte": 3}}
    sequence = {"sequence": [{"event": "A"}, {"event": "B"}]}
    told = {
        "holds": False,
        "all": [
            {"holds": True, "segment": "often", "is": {"holds": True, "condition": bought, "found": 4}},
            {"holds": False, "not": {"holds": True, "condition": {"trait": "plan", "exists": True}, "found": "pro"}},
            {"holds": True, "condition": {"event": "E", "last": {"within": "7d"}}, "found": 1_700_000_000_000},
            {"holds": True, "condition": sequence, "found": {"began": 0, "ended": 1_000}},
            {"holds": False, "condition": sequence, "found": None},
        ],
    }
    assert [(each["holds"], each["condition"], each["found"]) for each in lines(told)] == [
        ("no", "all", ""),
        ("yes", "  segment often", ""),
        ("yes", '    {"event":"Bought","count":{"gte":3}}', "4"),
        ("no", "  not", ""),
        ("yes", '    {"trait":"plan","exists":true}', "pro"),
        ("yes", '  {"event":"E","last":{"within":"7d"}}', "2023-11-14 22:13:20"),
        ("yes", '  {"sequence":[{"event":"A"},{"event":"B"}]}', "1970-01-01 00:00:00 to 1970-01-01 00:00:01"),
        ("no", '  {"sequence":[{"event":"A"},{"event":"B"}]}', "nothing"),
    ]
