"""The figures of the fault bench: GPU work from its record, growth from samples, and the page."""

import json
import random
import xml.etree.ElementTree as ET

import pytest

from bench.chaos.plot import curves
from bench.chaos.report import BEGIN, END, Run, write
from bench.chaos.trend import slope
from bench.chaos.work import Records, gather


def lines(*marks):
    return [
        json.dumps({"job": job, "run": run, "what": what, "at": at}) + "\n"
        for job, run, what, at in marks
    ]


def test_work_beyond_the_last_completed_execution_is_wasted():
    """A job begun twice costs once: the time of the start that came to nothing is wasted."""
    work = gather(
        lines(
            ("a", "1", "start", 0.0),
            ("a", "1", "step", 2.0),
            ("a", "2", "start", 5.0),
            ("a", "2", "end", 6.0),
            ("b", "3", "start", 7.0),
            ("b", "3", "end", 8.0),
        )
    )
    assert (work.beyond_one, work.seconds, work.wasted) == (1, 4.0, 2.0)
    assert [run.completed for run in work.of("a")] == [False, True]


def test_what_malformed_messages_start_is_not_counted_as_one_job():
    """Starts without a name are different jobs."""
    work = gather(lines(("", "1", "start", 0.0), ("", "2", "start", 1.0)))
    assert work.beyond_one == 0


def test_a_line_cut_short_by_a_kill_is_left_out():
    """The record of a process that was killed in the middle of a line is read all the same."""
    work = gather([*lines(("a", "1", "start", 0.0)), '{"job": "a", "ru'])
    assert len(work.executions) == 1


def test_a_record_is_read_once(tmp_path):
    """Every row sees what was written since the row before."""
    record = tmp_path / "work.jsonl"
    records = Records([record])
    assert records.new() == []
    record.write_text("one\n")
    assert records.new() == ["one\n"]
    with record.open("a") as file:
        file.write("two\n")
    assert records.new() == ["two\n"]


def test_a_leak_is_told_from_noise():
    """A figure that grows by 5 per 1,000 jobs is seen through noise, and noise is not seen as growth."""
    dice = random.Random(1)  # noqa: S311 - no secret
    jobs = [10.0 * number for number in range(200)]
    noise = [dice.gauss(100.0, 1.0) for _ in jobs]
    leak = [value + job * 5 / 1000 for value, job in zip(noise, jobs, strict=True)]
    assert slope(jobs, leak).low > 1.0
    assert slope(jobs, noise).low < 1.0 < slope(jobs, noise).high + 5.0
    found = slope(jobs, leak)
    assert found.low < found.per_thousand < found.high


def test_growth_that_ended_in_the_first_half_is_none():
    """What a process needs to get warm is no leak."""
    jobs = [float(number) for number in range(100)]
    warm = [min(number, 30.0) for number in jobs]
    assert slope(jobs, warm).per_thousand == 0.0


def test_too_few_samples_are_no_trend():
    """Below twenty samples nothing is said."""
    with pytest.raises(ValueError, match="too few"):
        slope([1.0], [1.0])


def test_the_plot_is_an_image_with_every_curve_and_fault():
    """One curve for each figure, one line for each fault in each of them."""
    svg = ET.fromstring(curves([0, 1, 2], {"a": [1, 2, 3], "b": [5, 5, 5]}, [1]))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert len(svg.findall(f"{space}polyline")) == 2
    assert len(svg.findall(f"{space}line")) == 2


def test_a_run_is_written_between_the_marks(tmp_path):
    """What stands around the marks stays."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, Run("python -m bench.chaos --seed 7", 7, 60.0, [], None), ["rst: lost 1"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "--seed 7" in text
    assert "rst: lost 1" in text


def test_a_page_without_marks_is_left_alone(tmp_path):
    """Nothing is written where nobody said where."""
    page = tmp_path / "page.md"
    page.write_text("x")
    with pytest.raises(ValueError, match="has no"):
        write(page, Run("python -m bench.chaos --seed 7", 7, 60.0, [], None), [])
    assert page.read_text() == "x"
