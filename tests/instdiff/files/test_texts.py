"""What is said of texts: on one line, counted, and with the place of what is none."""

import pytest

from instdiff.files import texts


def test_what_a_library_says_stands_on_one_line_and_who_says_nothing_is_named() -> None:
    assert texts.one_line(ValueError("  a\n\tb  c ")) == "a b c"
    assert texts.one_line(KeyError()) == "KeyError"


@pytest.mark.parametrize(("number", "said"), [(0, "0 layouts"), (1, "1 layout"), (2, "2 layouts")])
def test_one_is_one_and_all_others_are_several(number: int, said: str) -> None:
    assert texts.counted(number, "layout") == said


@pytest.mark.parametrize("content", ["a\u00e9", "", "\ufeffa\u00e9"], ids=["plain", "empty", "mark"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_text_is_the_same_with_and_without_one_mark(content: str, encoding: str) -> None:
    expected = content.removeprefix("\ufeff") if encoding == "utf-8" else content
    assert texts.decoded(content.encode(encoding)) == expected


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"ab\xff", r"^byte 2 \(0xff\) is not UTF-8: save the file as UTF-8$"),
        (b"a\xc3", r"^byte 1 \(0xc3\) is not UTF-8"),
        (b"\xff\xfea", r"^byte 2 \(0x61\) is not UTF-16"),
        ("ab".encode("utf-16-le"), r"^it holds NUL characters: is it UTF-16 without a byte order mark\?"),
    ],
)
def test_the_first_byte_that_is_no_text_is_named(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        texts.decoded(content)
