"""A half-done run belongs to its parameters, its inputs and the code that its stage imports, no less and no more."""

import textwrap
from pathlib import Path

import pytest

from data_prep import segment
from instdiff.schema import Strict
from instdiff.work import resume


class Params(Strict):
    steps: int
    work: int


PARAMS = Params(steps=3, work=1)
STAGE = "instdiff.sampling.generate"


def test_an_edit_of_the_solver_begins_the_drawing_anew_and_one_of_the_web_page_does_not() -> None:
    assert "instdiff.sampling.solvers" in resume.modules(STAGE)
    assert "instdiff.app.page" not in resume.modules(STAGE)


def test_an_edit_of_the_web_page_or_the_model_costs_no_half_done_masks() -> None:
    code = resume.modules(segment.__name__)
    assert {"data_prep.segment", "instdiff.networks.sam", "instdiff.layouts.masks"} <= set(code)
    assert not [name for name in code if name.startswith(("instdiff.app", "instdiff.model", "eval"))]


def test_each_part_decides_and_how_the_work_is_done_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    first = resume.digest(STAGE, PARAMS, tmp_path / "a", "hash")
    assert resume.digest(STAGE, PARAMS.model_copy(update={"work": 2}), tmp_path / "a", "hash") == first
    others = [
        resume.digest("data_prep.segment", PARAMS, tmp_path / "a", "hash"),
        resume.digest(STAGE, PARAMS.model_copy(update={"steps": 4}), tmp_path / "a", "hash"),
        resume.digest(STAGE, PARAMS, tmp_path / "a", "other"),
        resume.digest(STAGE, PARAMS, tmp_path / "a"),
    ]
    (tmp_path / "a").write_text("b")
    others.append(resume.digest(STAGE, PARAMS, tmp_path / "a", "hash"))
    assert len({first, *others}) == len(others) + 1


def test_a_folder_stands_for_the_bytes_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "weights").write_bytes(b"1")
    first = resume.digest(STAGE, PARAMS, tmp_path / "in")
    assert resume.digest(STAGE, PARAMS, tmp_path / "in") == first
    (tmp_path / "in" / "weights").write_bytes(b"2")
    assert resume.digest(STAGE, PARAMS, tmp_path / "in") != first


def test_the_code_of_any_imported_module_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resume.code(STAGE)
    own = resume.source

    def edited(module: str) -> Path:
        if module != "instdiff.sampling.solvers":
            return own(module)
        (tmp_path / "solvers.py").write_text(own(module).read_text() + "\nEDITED = True\n")
        return tmp_path / "solvers.py"

    monkeypatch.setattr(resume, "source", edited)
    assert resume.code(STAGE) != whole


def inside(opening: str, text: str) -> str:
    """A function as a statement of another, one step further in than its last line."""
    steps = 1 + (len(opening.splitlines()[-1]) - len(opening.splitlines()[-1].lstrip())) // 4
    return f"{opening}\n{textwrap.indent(text[text.index('def') :], '    ' * steps)}"


def test_comments_docstrings_and_formatting_say_nothing() -> None:
    plain = "def double(value):\n    return value * 2\n"
    dressed = textwrap.dedent('''
        """A module."""
        # a comment
        def double(value):
            """Twice the value."""
            return (value  *  2)
    ''')
    assert resume.syntax(dressed) == resume.syntax(plain)
    assert resume.syntax(plain.replace("2", "3")) != resume.syntax(plain)
    for opening in (
        "class A:",
        "if x:",
        "if x:\n    y\nelse:",
        "try:\n    y\nfinally:",
        "try:\n    y\nexcept E:",
        "with x:",
        "for x in y:",
        "while x:\n    y\nelse:",
        "match x:\n    case 1:",
        "async def a():",
    ):
        assert resume.syntax(inside(opening, dressed)) == resume.syntax(inside(opening, plain))
    assert resume.syntax('x = """text"""') != resume.syntax('x = """other"""')
