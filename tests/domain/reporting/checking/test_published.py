from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.reporting.checking.published import PublishedTable, tables_of


def one(markdown: str) -> PublishedTable:
    (table,) = tables_of(markdown)
    return table


def test_a_table_has_its_headings_line_and_rows() -> None:
    table = one("# Speed\n\n## On a Xeon\nwords\n\n| a | b |\n|:--|--:|\n| 1 | 2 |\n| 3 | 4 |\n\n| no | table |\n")
    assert table.headings == ("Speed", "On a Xeon")
    assert (table.line, table.header, table.rows) == (6, ("a", "b"), (("1", "2"), ("3", "4")))
    assert table.name == "table 1, line 6: Speed > On a Xeon"
    assert "words" in table.context


def test_outer_pipes_may_be_missing_and_a_line_without_a_pipe_ends_the_table() -> None:
    table = one("a | b |\n---|---|\n1 | 2 |\n3 | 4\nThe end.\n")
    assert table.rows == (("1", "2"), ("3", "4"))


def test_a_cell_is_what_a_reader_sees() -> None:
    cells = r"| [net](x/y) | a \| b | **2.15** | `int8` | \[1, 2\] | x&amp;y | 3<sup>1</sup> | a<br>b | | a_b |"
    table = one("|" + "h|" * 10 + "\n|" + "-|" * 10 + f"\n{cells}\n")
    assert table.rows[0] == ("net", "a | b", "2.15", "int8", "[1, 2]", "x&y", "3", "a b", "", "a_b")


def test_a_short_row_is_filled_and_a_long_one_is_cut_as_github_does() -> None:
    assert one("| a | b |\n|--|--|\n| 1 |\n| 1 | 2 | 3 |\n").rows == (("1", ""), ("1", "2"))


def test_a_delimiter_row_of_another_width_makes_no_table() -> None:
    assert tables_of("| a | b |\n|---|\n| 1 | 2 |\n") == ()


def test_what_stands_in_a_code_block_is_no_table_and_no_heading() -> None:
    text = "# Real\n```sh\n# comment\n| a | b |\n|---|---|\n~~~\n```\n| c | d |\n|---|---|\n"
    table = one(text)
    assert (table.header, table.headings) == (("c", "d"), ("Real",))


def test_a_section_ends_where_one_of_its_level_begins_and_captions_in_bold_are_headings() -> None:
    table = "| a | b |\n|---|---|\n"
    text = f"# One\nintro\n## Deep\n**Caption**\n\n{table}\n**Next:**\n{table}\n# Two\n{table}"
    assert [t.headings for t in tables_of(text)] == [("One", "Deep", "Caption"), ("One", "Deep", "Next:"), ("Two",)]
    assert "intro" in tables_of(text)[0].context
    assert "intro" not in tables_of(text)[2].context


def test_a_file_that_lost_its_line_breaks_is_read_too() -> None:
    text = (
        "[other](x.md) | this # Title ## Speed words - and more "
        "| a | b | c | | :--- | ---- | ---: | | 1 | | | | | | 2 | ### Next | a | b | | --- | --- | | 3 | 4 | # End"
    )
    first, second = tables_of(text)
    assert first.header == ("a", "b", "c")
    assert first.rows == (("1", "", ""), ("", "", "2"))
    assert first.headings == ("Title", "Speed words - and more")
    assert second.rows == (("3", "4"),)
    assert second.headings[-1] == "Next"
    assert (first.ordinal, first.line, second.ordinal, second.line) == (1, 1, 2, 1)


def test_a_row_of_dashes_in_a_file_without_line_breaks_is_a_row() -> None:
    table = one("words | a | b | | --- | --- | | 1 | 2 | | --- | --- | | 3 | 4 | more words")
    assert (table.header, table.rows) == (("a", "b"), (("1", "2"), ("---", "---"), ("3", "4")))


def test_dashes_among_the_cells_of_a_row_do_not_unfold_it() -> None:
    assert one("| a | b | c |\n|---|---|---|\n| x | --- | --- |\n").rows == (("x", "---", "---"),)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="|-: a1#`*[]()\\\n~<>%é", max_size=120))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for table in tables_of(text):
        assert all(len(row) == len(table.header) for row in table.rows)
