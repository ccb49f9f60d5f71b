from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from blixt_frontend.manifests.merging import MergedFiles
from blixt_frontend.objects import Namespace, Object, ObjectKey, ObjectMeta


def namespace(name: str, version: int = 0) -> Namespace:
    return Namespace(metadata=ObjectMeta(name=name, generation=version))


def file(*objects: Object) -> dict[ObjectKey, Object]:
    return {one.key: one for one in objects}


A, B = namespace("a"), namespace("b")


def test_new_changed_and_removed_objects() -> None:
    merged = MergedFiles()
    assert merged.replace({"1": file(A, B)}).upserts == (A, B)
    changed = merged.replace({"1": file(namespace("a", 1))})
    assert (changed.upserts, changed.deletions) == ((namespace("a", 1),), (B.key,))
    assert not merged.replace({"1": file(namespace("a", 1))})
    assert merged.replace({"1": {}}).deletions == (A.key,)
    assert not merged.replace({"1": {}})


def test_an_equal_object_is_not_sent_again() -> None:
    merged = MergedFiles()
    merged.replace({"1": file(A)})
    assert not merged.replace({"1": file(namespace("a"))})


def test_a_move_from_file_to_file_in_one_step_is_no_change() -> None:
    merged = MergedFiles()
    merged.replace({"1": file(A), "2": {}})
    assert not merged.replace({"1": {}, "2": file(namespace("a"))})
    assert merged.replace({"1": file(namespace("a", 2)), "2": {}}).upserts == (namespace("a", 2),)


def test_the_alphabetically_first_file_wins_and_the_next_takes_over() -> None:
    merged = MergedFiles()
    merged.replace({"b": file(namespace("a", 2))})
    first = merged.replace({"a": file(namespace("a", 1)), "c": file(namespace("a", 3))})
    assert first.upserts == (namespace("a", 1),)
    assert first.contested == {A.key: ("a", "b", "c")}
    assert not merged.replace({"c": file(namespace("a", 4))})
    assert merged.replace({"a": {}}).upserts == (namespace("a", 2),)
    assert merged.replace({"b": {}}).upserts == (namespace("a", 4),)
    assert merged.replace({"c": {}}).deletions == (A.key,)


def test_a_contest_is_told_once_until_it_is_settled() -> None:
    merged = MergedFiles()
    merged.replace({"a": file(A)})
    assert merged.replace({"b": file(A)}).contested == {A.key: ("a", "b")}
    assert merged.replace({"c": file(namespace("a", 1))}).contested == {}
    merged.replace({"b": {}, "c": {}})
    assert merged.replace({"b": file(A)}).contested == {A.key: ("a", "b")}


objects = st.builds(namespace, st.sampled_from("abcd"), st.integers(0, 2))
contents = st.lists(objects, max_size=4).map(lambda some: file(*some))
steps = st.lists(st.dictionaries(st.sampled_from(["1", "2", "3"]), contents, max_size=3), max_size=8)


@given(steps)
def test_the_differences_add_up_to_what_a_fresh_start_sees(
    edits: list[dict[str, dict[ObjectKey, Object]]],
) -> None:
    merged = MergedFiles()
    files: dict[str, dict[ObjectKey, Object]] = {}
    sent: dict[ObjectKey, Object] = {}
    for edit in edits:
        changes = merged.replace(edit)
        files |= edit
        before = dict(sent)
        for key in changes.deletions:
            del sent[key]
        sent |= {one.key: one for one in changes.upserts}

        expected: dict[ObjectKey, Object] = {}
        for name in sorted(files, reverse=True):
            expected |= files[name]
        assert sent == expected == merged.objects()
        assert all(before.get(one.key) != one for one in changes.upserts)
        assert {one.key for one in changes.upserts}.isdisjoint(changes.deletions)
