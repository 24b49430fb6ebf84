"""The texts and who embeds them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contenders import REFERENCE, all_contenders, parse_variant, select
from bench.harness.machine import describe
from bench.harness.procfs import busy_ticks, processor_s
from bench.harness.runner import rotate
from bench.workloads import COUNTS, TITLES, load_corpora, retrieval_task, split_text

EVERYONE = all_contenders([parse_variant("fp32"), parse_variant("fp16@cuda")])


@pytest.mark.parametrize("name", COUNTS)
def test_workloads_are_full_all_different_and_the_same_each_time(name: str) -> None:
    workload = load_corpora(None).workload(name)
    assert len(workload.texts) == len(set(workload.texts)) == COUNTS[name]
    assert workload == load_corpora(None).workload(name)
    assert workload.single == (name == "single")
    assert len(load_corpora(None).workload(name, limit=6).texts) == 6


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\ntwo\nthree\n", encoding="utf-8")
    corpora = load_corpora(path)
    assert sorted(corpora.workload("file").texts) == ["one", "three", "two"]
    assert len(corpora.workload("file", limit=2).texts) == 2


@given(st.text(min_size=1).filter(lambda text: len(text.split()) > 1))
def test_both_parts_of_a_text_hold_words(text: str) -> None:
    query, rest = split_text(text)
    assert query.strip()
    assert rest.strip()


@given(st.lists(st.sampled_from(["abc", "de", "fgh."]), min_size=2))
def test_splitting_loses_no_word(words: list[str]) -> None:
    query, rest = split_text(" ".join(words))
    assert [*query.split(), *rest.split()] == words


def test_the_retrieval_task_has_three_documents_for_each_query() -> None:
    task = retrieval_task(load_corpora(None).long, queries=20)
    assert (len(task.queries), len(task.documents)) == (20, 60)


def test_names_are_unique_and_the_reference_comes_first() -> None:
    names = [contender.name for contender in EVERYONE]
    assert len(names) == len(set(names))
    assert names[0] == REFERENCE


@pytest.mark.parametrize("pattern", ["all", "standard", "peers", "layers", "grpc-*", "ort-plain"])
def test_the_reference_takes_part_in_everything(pattern: str) -> None:
    chosen = select(EVERYONE, [pattern])
    assert chosen[0].name == REFERENCE
    assert len(chosen) > 1


def test_a_name_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        select(EVERYONE, ["nobody"])


def test_single_workloads_are_handed_over_one_by_one() -> None:
    for contender in EVERYONE:
        assert contender.call_for(single=True).request_texts == 1
        assert contender.call_for(single=False) == contender.call


def test_variants_name_precision_and_provider() -> None:
    assert parse_variant("int8").label == "int8"
    variant = parse_variant("fp16@cuda")
    assert (variant.precision, variant.provider, variant.label) == ("fp16", "cuda", "fp16@cuda")


@given(st.integers(1, 8), st.integers(0, 40))
def test_each_round_starts_with_the_next(size: int, number: int) -> None:
    entries = list(range(size))
    assert sorted(rotate(entries, number)) == entries
    assert rotate(entries, number)[0] == number % size


@pytest.mark.parametrize("name", TITLES)
def test_every_workload_can_be_built(name: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("one\ntwo\n", encoding="utf-8")
    assert load_corpora(path).workload(name).texts


def test_busy_time_leaves_out_idle_and_guest_time() -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice, see proc(5)
    assert busy_ticks("cpu  10 1 5 1000 50 2 3 4 7 7\ncpu0 1 1 1 1\n") == 10 + 1 + 5 + 2 + 3 + 4


def test_processor_time_of_a_process_is_what_it_sees_itself() -> None:
    before_s = time.process_time()
    seen_s = processor_s(os.getpid())
    assert before_s < seen_s < time.process_time()


def test_the_machine_is_described() -> None:
    machine = describe()
    assert machine["usable_cpus"] >= 1
    assert machine["memory_bytes"] > 2**20
