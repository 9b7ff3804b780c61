"""Header cards against astropy, the FITS standard, and headers of real instruments."""

import logging
import warnings
from collections import Counter

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from masterframe.errors import FrameError
from masterframe.fits import legal, source
from masterframe.fits.cards import (
    CARD,
    Card,
    parse_value,
    read_all_cards,
    read_cards,
    read_comments,
    read_history,
)
from masterframe.fits.cardtext import header_bytes, header_text
from masterframe.fits.layout import walk
from support import shared

COMMENTARY = {"", "COMMENT", "HISTORY", "END", "CONTINUE"}


def header(*cards: str) -> bytes:
    return b"".join(card.ljust(CARD).encode("latin-1") for card in cards)


def in_astropy(cards: bytes) -> dict[str, object]:
    """First value of each keyword as astropy reads it, those that it cannot read left out."""
    found: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in fits.Header.fromstring(cards).cards:
            key = card.rawkeyword.upper()
            if key in COMMENTARY or key in found:
                continue
            try:
                value = card.rawvalue
            except fits.VerifyError:
                continue
            if isinstance(value, complex):
                continue
            found[key] = None if isinstance(value, fits.card.Undefined) else value
    return found


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("                   16 / bits", 16),
        ("                  -00 / minus", 0),
        ("+007", 7),
        ("                   1. /", 1.0),
        ("-.5E-3/no blank", -0.0005),
        ("1.5D+02 / Fortran", 150.0),
        ("2d1", 20.0),
        ("- 1.0 E 5 / blanks within", -1e5),
        ("                    T / true", True),
        ("F", False),
        ("'AB  '", "AB"),
        ("'  AB'", "  AB"),
        ("'        '", ""),
        ("''", ""),
        ("'it''s' / doubled", "it's"),
        ("'0.2''''/pixel' / two of them", "0.2''/pixel"),
        ("'O'Brien' / not doubled", "O'Brien"),
        ("'a / b' / slash within", "a / b"),
        ("'NUL\0\0\0'", "NUL"),
        ("'T\xc3\xbcbingen' / UTF-8", "Tübingen"),
        ("'caf\xe9' / Latin 1", "café"),
        ("", None),
        ("            / undefined", None),
        ("3,2E-05 / decimal comma", "3,2E-05"),
        ("12:30:45.5 / unquoted", "12:30:45.5"),
        ("2020/01/02 / unquoted", 2020),  # by the standard a number and a comment
        ("2020-01-02 / unquoted", "2020-01-02"),
        ("(1.0, 2.0) / complex", "(1.0, 2.0)"),
        ("'never closed", "'never closed"),
        ("NaN / not a number", "NaN"),
        ("TRUE / a word", "TRUE"),
    ],
)
def test_value_fields(field, expected):
    value = parse_value(field)
    assert (type(value), value) == (type(expected), expected)
    card = ("KEY     = " + field)[:CARD]
    assert read_cards(header(card, "END")) == {"KEY": expected}


def test_keywords():
    cards = read_cards(
        header(
            "SIMPLE  =                    T",
            "lower   =                    1",
            "HIERARCH ESO DET Out1 GAIN = 0.91 / adu",
            "HIERARCH ESO TPL NAME='x' / no blanks",
            "HIERARCH without a sign",
            "EARLY= 5 / to the left",
            "NOTE      this is no value",
            "TWICE   =                    1",
            "TWICE   =                    2",
            "COMMENT = 'not a value'",
            "HISTORY one",
            "        = 3",
            "",
            "END",
            "BEHIND  =                    1",
        )
    )
    assert cards == {
        "SIMPLE": True,
        "LOWER": 1,
        "ESO DET OUT1 GAIN": 0.91,
        "ESO TPL NAME": "x",
        "HIERARCH": "without a sign",
        "EARLY": 5,
        "NOTE": "this is no value",
        "TWICE": 1,
    }


def test_a_continued_string_is_joined():
    long = "a long string with 'quotes' that does not fit into one card; " * 4
    card = fits.Card("LONG", long.strip(), "and a comment")
    assert read_cards(str(card).encode()) == {"LONG": long.strip()}


def test_only_a_string_that_ends_in_an_ampersand_goes_on():
    cards = header("A       = 'one'", "CONTINUE  'two'", "B       = 'three&'", "C       = 4", "END")
    assert read_cards(cards) == {"A": "one", "B": "three&", "C": 4}


def test_a_second_card_of_a_keyword_is_not_joined_to_the_first():
    cards = header("A       = 'one&'", "B       = 1", "A       = 'two&'", "CONTINUE  'three'")
    assert read_cards(cards) == {"A": "one&", "B": 1}


words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
values = st.one_of(
    words,
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.none(),
)
keywords = st.text("ABCXYZ0123456789-_", min_size=1, max_size=8).filter(
    lambda key: key not in COMMENTARY
)


@given(st.lists(st.tuples(keywords, values, words), max_size=12, unique_by=lambda entry: entry[0]))
def test_what_astropy_writes_is_read_as_astropy_reads_it(entries):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = fits.Header([fits.Card(*entry) for entry in entries]).tostring().encode()
    expected = in_astropy(written)
    for key, value, _ in entries:
        if isinstance(value, str):  # astropy may take quotes of value and comment for one another
            expected[key] = value.rstrip()
    found = read_cards(written)
    assert found == expected
    assert [type(found[key]) for key in expected] == [type(expected[key]) for key in expected]


fields = st.one_of(
    st.from_regex(
        r"[ ]{0,20}[+-]?[0-9]{0,6}(\.[0-9]{0,6})?([EDed][+-]?[0-9]{1,2})?[ ]{0,3}", fullmatch=True
    ),
    st.from_regex(r" *'[ -&(-~]{0,30}' *(/[ -~]{0,20})?", fullmatch=True),
    st.from_regex(r"[ ]{0,20}[TF ][ ]{0,9}(/[ -~]{0,20})?", fullmatch=True),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=70),
)


@given(st.sampled_from(["EXPTIME ", "HIERARCH ESO A B ", "lower"]), fields)
def test_any_value_field_is_read_as_astropy_reads_it(keyword, field):
    card = f"{keyword:8}= {field}".replace("\n", "")[:CARD]
    cards = header(card, "END")
    found = read_cards(cards)
    assert all(isinstance(value, str | int | float | None) for value in found.values())
    if "''" in field or ": " in field:
        return  # astropy cuts at a doubled quote, and splits record-valued cards
    for key, value in in_astropy(cards).items():
        assert (type(found[key]), found[key]) == (type(value), value)


@given(st.binary(max_size=8 * CARD))
def test_any_bytes_are_read(data):
    assert all(isinstance(key, str) and key for key in read_cards(data))


@pytest.mark.parametrize("word", ["A" * 70, "'" * 70, "' " * 35, "''/" * 23, "1 " * 35, " " * 69])
def test_no_card_takes_long(word):
    cards = header(*[("KEY     = " + word)[:CARD]] * 2000)
    assert len(read_cards(cards)) == 1  # a pattern that backtracks would hit the time limit


# What astropy reads otherwise, and why: by the end of the keyword.
KNOWN = {
    "ESO INS OPTI2 NAME": "'0.2''''/mask': for astropy it ends at the slash behind the quotes",
    "ESO INS OPTI5 NAME": "likewise",
}


def compare(name: str, cards: bytes) -> list[str]:
    """Cards whose values differ from astropy's; those that astropy cannot read are not asked."""
    found = read_cards(cards)
    return [
        f"{name}: {key} is {found.get(key)!r}, in astropy {value!r}"
        for key, value in in_astropy(cards).items()
        if (type(found.get(key)), found.get(key)) != (type(value), value) and key not in KNOWN
    ]


def test_headers_of_real_instruments():
    logging.getLogger("astropy").setLevel(logging.ERROR)
    differing: list[str] = []
    files = sorted(shared("headers").glob("*.hdr"))
    for file in files:
        lines = file.read_bytes().split(b"\n")
        differing += compare(file.name, b"".join(line[:CARD].ljust(CARD) for line in lines if line))
    assert len(files) > 100
    assert differing == []


def test_headers_of_real_files():
    differing: list[str] = []
    count = 0
    truncated = 0
    for file in sorted(shared("data").rglob("*.[fF][iI][tT]*")):
        if "lsst_mef" in file.parts:
            continue  # a hundred HDUs of the same cards
        try:
            with source.open_source(str(file)) as (data, _):
                for raw in walk(str(file), data):
                    differing += compare(f"{file.name}[{raw.index}]", raw.header)
                    count += len(raw.cards)
        except FrameError as error:
            truncated += error.reason.startswith("truncated")
    assert count > 5000
    assert truncated == 2
    assert differing == []


def readable(card):
    """Whether astropy can read a card, and its string needs no second card."""
    try:
        return bool(card.comment) and not str(card.value).endswith("&")
    except fits.VerifyError:
        return False


def test_comments_and_history_are_those_of_astropy():
    """Of every real header: the comment of each short keyword, and all of its HISTORY."""
    compared = 0
    for path in sorted(shared("headers").glob("*.hdr")):
        lines = [line[:CARD] for line in path.read_bytes().split(b"\n") if line.strip() != b"END"]
        cards = b"".join(line.ljust(CARD) for line in lines) + header("END")
        values = read_cards(cards)
        keys = [key for key in values if len(key) <= 8 and " " not in key and "\0" not in key]
        found = read_comments(cards, [key for key in keys if key.isascii()])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = fits.Header.fromstring(cards)
            once = Counter(expected.keys())
            for card in expected.cards:
                if card.keyword in found and once[card.keyword] == 1 and readable(card):
                    assert found[card.keyword] == card.comment, (path.name, card.keyword)
                    compared += 1
            assert read_history(cards).split("\n") == (list(expected.get("HISTORY", [])) or [""])
    assert compared > 1000


@pytest.mark.parametrize(
    ("card", "comment"),
    [
        ("GAIN    =                  1.9 / e-/ADU", "e-/ADU"),
        ("GAIN    = '1/2 ''x'' /'         / [e-/ADU] / more", "[e-/ADU] / more"),
        ("GAIN    =                  1.9", None),
        ("GAIN    =                  1.9 /", None),
        ("COMMENT GAIN    =          1.9 / e-/ADU", None),
        ("GAINSET =                  1.9 / e-/ADU", None),
    ],
)
def test_comment_of_a_card(card, comment):
    cards = header("SIMPLE  =                    T", card, "END")
    assert read_comments(cards, ["GAIN"]) == ({} if comment is None else {"GAIN": comment})


# All cards, in their order.


def firsts(cards):
    """First value of each keyword."""
    found = {}
    for card in cards:
        if card.keyword not in COMMENTARY:
            found.setdefault(card.keyword, card.value)
    return found


def test_all_cards_have_the_values_of_the_dictionary():
    for path in sorted(shared("headers").glob("*.hdr")):
        lines = path.read_bytes().split(b"\n")
        cards = b"".join(line[:CARD].ljust(CARD) for line in lines if line)
        assert firsts(read_all_cards(cards)) == read_cards(cards), path.name


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=CARD), max_size=8))
def test_all_cards_of_any_text_have_the_values_of_the_dictionary(cards):
    raw = header(*cards)
    assert firsts(read_all_cards(raw)) == read_cards(raw)


def test_order_comments_and_commentary_are_kept():
    cards = header(
        "SIMPLE  =                    T / it is",
        "COMMENT  two blanks",
        "",
        "TWICE   = 1 / first",
        "TWICE   = 2 / second",
        "LONG    = 'one &'",
        "CONTINUE  'two &' / the comment",
        "CONTINUE  'three'",
        "HISTORY = 'not a value'",
        "DATE-OBS= 12/05/94 / as text",
        "EXPTIME = 3,2E-05 / decimal comma",
        "CONTINUE  'of nothing'",
        "END",
        "BEHIND  = 1",
    )
    assert read_all_cards(cards) == [
        Card("SIMPLE", True, "it is"),
        Card("COMMENT", " two blanks"),
        Card("", ""),
        Card("TWICE", 1, "first"),
        Card("TWICE", 2, "second"),
        Card("LONG", "one two three", "the comment"),
        Card("HISTORY", "= 'not a value'"),
        Card("DATE-OBS", 12, "05/94 / as text"),  # by the standard a number and a comment
        Card("EXPTIME", "3,2E-05", "decimal comma"),
        Card("CONTINUE", "  'of nothing'"),
    ]


# Cards that are written.


def safe(key, value, comment=""):
    return legal.safe_card(key, value, comment, limit=legal.LONG_STRING)


everything = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300).map(str.rstrip),
    st.text("'& x", max_size=300).map(str.rstrip),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
names = keywords | st.just("ESO DET OUT1 GAIN") | st.just("A VERY LONG KEYWORD INDEED")


@given(st.lists(st.tuples(names, everything, words), max_size=12, unique_by=lambda item: item[0]))
def test_what_is_written_is_read_as_it_was_meant(items):
    made = [card for item in items if (card := safe(*item)) is not None]
    written = header_bytes(made)
    assert len(written) % 2880 == 0
    found = {card.keyword: card for card in read_all_cards(written)}
    for keyword, value, comment in made:
        back = found[keyword].value
        assert (type(back), back) == (type(value), value)
        if isinstance(value, str) and len(value) > 50:
            continue  # its comment has been cut
        assert comment.startswith(found[keyword].comment)


@given(st.lists(st.tuples(names, everything), max_size=12, unique_by=lambda item: item[0]))
def test_what_is_written_is_read_by_astropy_as_it_was_meant(items):
    made = [card for item in items if (card := safe(*item)) is not None]
    found = fits.Header.fromstring(header_bytes(made))
    for keyword, value, _ in made:
        if isinstance(value, str) and ("''" in value or value.endswith("&")):
            continue  # astropy cuts at doubled quotes of a string that goes on
        assert (type(found[keyword]), found[keyword]) == (type(value), value)
    assert [key.upper() for key in found] == [card.keyword for card in made]


def test_cards_stand_in_the_columns_of_fixed_format():
    cards = [
        Card("SIMPLE", True, "conforms to FITS"),
        Card("NAXIS", 2),
        Card("CRVAL1", -1e-7),
        Card("BIG", 1e22),
        Card("EXACT", -1.2345678901234567e-100),
        Card("OBJECT", "M 31", "target"),
        Card("EMPTY", ""),
        Card("QUOTE", "it's"),
        Card("ESO DET ID", "x", "short"),
        Card("HISTORY", "made"),
        Card("FULL", "x" * 68, "no room"),
        Card("OVER", "'" * 35),
    ]
    text = header_text(cards)
    assert [text[n : n + CARD].rstrip() for n in range(0, len(text), CARD)] == [
        "SIMPLE  =                    T / conforms to FITS",
        "NAXIS   =                    2",
        "CRVAL1  =             -1.0E-07",
        "BIG     =              1.0E+22",
        "EXACT   = -1.2345678901234567E-100",
        "OBJECT  = 'M 31    '           / target",
        "EMPTY   = ''",
        "QUOTE   = 'it''s   '",
        "HIERARCH ESO DET ID = 'x       ' / short",
        "HISTORY made",
        "FULL    = '" + "x" * 68 + "'",
        "OVER    = '" + "'" * 66 + "&'",
        "CONTINUE  '" + "''" * 2 + "'",
    ]


def test_a_header_that_is_too_long_is_refused():
    cards = [Card("A", 1)] * 36
    with pytest.raises(ValueError, match="lacks 1 spare cards"):
        header_bytes(cards, 2880)
    assert len(header_bytes(cards)) == 2 * 2880
    assert header_bytes(cards[1:]).endswith(b"END".ljust(80))
