"""A row of the table has a command exactly where its pictures are drawn by one, with places for what it is given."""

import re

import pytest
from pydantic import ValidationError

from instdiff.layouts.table_rows import TableRow

PLAIN = {"meaning": "some", "formats": ("box",), "mis": 0.0}


@pytest.mark.parametrize(
    ("pictures", "command", "says"),
    [
        *((pictures, None, None) for pictures in ("real", "reconstructed", "drawn")),
        ("command", ("run", "--in={layouts}", "{out}"), None),
        ("command", ("run", "{layouts}{out}{seed}"), None),
        ("command", None, "is given where pictures is command, and only there"),
        ("command", (), "is given where pictures is command, and only there"),
        ("drawn", ("run", "{layouts}", "{out}"), "is given where pictures is command, and only there"),
        ("command", ("run", "{layouts}"), r"has no place for \{out\}$"),
        ("command", ("run", "{out}"), r"has no place for \{layouts\}$"),
        ("command", ("run", "layouts", "out"), r"has no place for \{layouts\} and \{out\}$"),
    ],
)
def test_a_command_stands_where_it_draws_with_places_for_layouts_and_pictures(
    pictures: str, command: tuple[str, ...] | None, says: str | None
) -> None:
    row = {**PLAIN, "pictures": pictures, "command": command}
    if says is None:
        assert TableRow.model_validate(row).command == command
    else:
        with pytest.raises(ValidationError) as refused:
            TableRow.model_validate(row)
        assert re.search(says, refused.value.errors()[0]["msg"])
