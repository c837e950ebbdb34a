"""What the tests of reports share."""

# What a report.json holds where nothing of it was measured.
NOTHING = {
    "teacher": None,
    "no_distillation": None,
    "quality": {},
    "training": {},
    "held_out": {},
    "held_out_text": {},
    "neighbours": None,
    "two_readings": None,
    "cuts": {},
    "by_position": {},
    "notes": [],
}
