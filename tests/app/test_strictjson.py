import pytest

from app.strictjson import DEEPEST, InvalidJsonError, loads


def complaint(body: bytes) -> str:
    with pytest.raises(InvalidJsonError) as caught:
        loads(body)
    assert caught.value.status == 400
    (problem,) = caught.value.problems
    return f"{problem.field} {problem.message}"


def test_a_plain_document_is_read() -> None:
    assert loads(b'{"a": [1, 2.5, "\\u00e9", null, true]}') == {"a": [1, 2.5, "é", None, True]}


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"{'a': 1}", b'{"a": 1,}', b"\x00"])
def test_what_is_not_json_says_where_it_breaks(body: bytes) -> None:
    assert "is not JSON" in complaint(body)
    assert "line 1, column" in complaint(body)


def test_other_encodings_are_named() -> None:
    assert complaint('{"a": "é"}'.encode("latin-1")) == "request is not UTF-8 from byte 7 on; encode it as UTF-8"


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_constants_that_json_does_not_have_are_refused(constant: bytes) -> None:
    assert constant.decode() in complaint(b'{"a": ' + constant + b"}")


def test_a_number_beyond_every_float_is_refused() -> None:
    assert complaint(b'{"a": {"b": [0, 1e999]}}') == "a.b.1 is too large a number"


def test_a_number_with_too_many_digits_is_refused() -> None:
    assert "too many digits" in complaint(b"1" * 5000)


def test_a_key_given_twice_is_refused() -> None:
    assert complaint(b'{"model": "a", "model": "b"}') == "model is given twice; keep one"


@pytest.mark.parametrize("body", [b'"\\ud800"', b'{"a": "x\\udfff"}', b'{"\\ud800": 1}'])
def test_a_lone_surrogate_is_refused(body: bytes) -> None:
    assert "lone surrogate" in complaint(body)


@pytest.mark.parametrize("depth", [DEEPEST + 1, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_an_abyss_of_brackets_is_refused(depth: int, opening: bytes, closing: bytes) -> None:
    assert "nests deeper than 32 levels" in complaint(opening * depth + b"1" + closing * depth)


def test_a_document_of_the_greatest_depth_is_read() -> None:
    depth = DEEPEST - 1
    assert loads(b"[" * depth + b"1" + b"]" * depth) is not None


def test_a_byte_order_mark_is_no_part_of_a_document() -> None:
    assert loads(b"\xef\xbb\xbf{}") == {}
