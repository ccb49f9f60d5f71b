"""The state of a folder, step by step, without a watcher."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blixt_frontend.manifests.folder import ManifestFolder
from blixt_frontend.manifests.merging import Changes
from blixt_frontend.objects import Object, ObjectKey


def service(name: str, port: object = 80) -> str:
    spec = f"spec: {{ports: [{{port: {port}}}]}}"
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\n{spec}\n"


def write(path: Path, text: str | bytes) -> None:
    """In one step, as an editor does: a new file renamed over the old one has a new signature for sure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(text if isinstance(text, bytes) else text.encode())
    draft.rename(path)


def step(folder: ManifestFolder) -> Changes:
    seen = folder.look()
    assert seen is not None
    return folder.load(seen, folder.pending(seen))


def upserted(changes: Changes) -> list[str]:
    return [one.key.name for one in changes.upserts]


def deleted(changes: Changes) -> list[str]:
    return [key.name for key in changes.deletions]


def in_force(folder: ManifestFolder) -> list[str]:
    return sorted(key.name for key in folder.objects())


@pytest.fixture(autouse=True)
def _all_messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="blixt_frontend.manifests")


def test_which_files_are_read(tmp_path: Path) -> None:
    for path in ("a.yaml", "sub/deeper/b.yml", "c.json", ".hidden.yaml", ".git/d.yaml", "e.txt", "f.yaml~"):
        name = Path(path).name.strip(".")[0]
        write(tmp_path / path, service(name))
    (tmp_path / "g.yaml").mkdir()
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo.yaml")
    folder = ManifestFolder(tmp_path)
    step(folder)
    assert in_force(folder) == ["a", "b", "c"]
    assert folder.problems == {}


def test_a_single_file_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".manifests"
    write(path, service("a"))
    write(tmp_path / "b.yaml", service("b"))
    folder = ManifestFolder(path)
    step(folder)
    assert in_force(folder) == ["a"]


def test_links_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "a.yaml", service("a"))
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (root / "self").symlink_to(root)
    folder = ManifestFolder(root)
    step(folder)
    assert in_force(folder) == ["a"]


def test_a_mounted_config_map_is_swapped_at_once(tmp_path: Path) -> None:
    """The kubelet's way: files are links through ..data, which is replaced by a link to the new version."""
    write(tmp_path / "..2026_01" / "a.yaml", service("a", 1))
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    folder = ManifestFolder(tmp_path)
    assert upserted(step(folder)) == ["a"]
    write(tmp_path / "..2026_02" / "a.yaml", service("a", 2))
    (tmp_path / "..data_tmp").symlink_to("..2026_02")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert upserted(step(folder)) == ["a"]
    assert not step(folder)


def test_a_broken_file_keeps_its_last_good_version_and_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.yaml", service("a") + "---\n" + service("b"))
    write(tmp_path / "z.yaml", service("z"))
    folder = ManifestFolder(tmp_path)
    step(folder)

    write(tmp_path / "a.yaml", service("a", 81) + "---\n" + service("b", 0))
    write(tmp_path / "z.yaml", service("z", 81))
    assert upserted(step(folder)) == ["z"]
    assert in_force(folder) == ["a", "b", "z"]
    (problem,) = folder.problems.values()
    assert problem == "document 2 (line 9): Service demo/b: spec.ports[0].port: 0: expected int >= 1"
    assert f"{tmp_path}/a.yaml: {problem}; its last good version stays in force" in caplog.text

    caplog.clear()
    assert not step(folder)
    assert not caplog.text

    write(tmp_path / "a.yaml", service("a", 81))
    changes = step(folder)
    assert (upserted(changes), deleted(changes)) == (["a"], ["b"])
    assert folder.problems == {}
    assert "a.yaml is good again" in caplog.text


def test_a_file_that_was_never_good_holds_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.yaml", "kind: [")
    folder = ManifestFolder(tmp_path)
    assert not step(folder)
    assert "nothing of it is in force" in caplog.text
    (tmp_path / "a.yaml").unlink()
    step(folder)
    assert folder.problems == {}


def test_a_broken_file_that_is_removed_takes_its_objects_with_it(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    folder = ManifestFolder(tmp_path)
    step(folder)
    write(tmp_path / "a.yaml", b"\xff")
    assert not step(folder)
    (tmp_path / "a.yaml").unlink()
    assert deleted(step(folder)) == ["a"]


@pytest.mark.parametrize("single", [False, True])
def test_a_path_that_is_gone_keeps_what_it_held(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, single: bool
) -> None:
    root = tmp_path / "root"
    write(root / "a.yaml", service("a"))
    folder = ManifestFolder(root / "a.yaml" if single else root)
    step(folder)
    root.rename(tmp_path / "away")
    assert folder.look() is None
    assert folder.look() is None
    assert caplog.text.count("No such file or directory; what it held stays in force") == 1
    assert in_force(folder) == ["a"]
    write(root / "a.yaml", service("b"))
    changes = step(folder)
    assert (upserted(changes), deleted(changes)) == (["b"], ["a"])
    assert "can be read" in caplog.text


def test_a_path_that_is_not_there_yet_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = ManifestFolder(tmp_path / "later")
    assert folder.look() is None
    assert "waiting for it to appear" in caplog.text


def test_a_file_may_become_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    write(path, service("a"))
    folder = ManifestFolder(path)
    step(folder)
    path.unlink()
    write(path / "b.yaml", service("b"))
    changes = step(folder)
    assert (upserted(changes), deleted(changes)) == (["b"], ["a"])


def test_an_object_in_two_files_is_named_once_and_the_first_file_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "b.yaml", service("x", 2))
    write(tmp_path / "a.yaml", service("x", 1))
    folder = ManifestFolder(tmp_path)
    (one,) = step(folder).upserts
    assert one.spec.ports[0].port == 1  # type: ignore[union-attr]  # the Service x
    assert (
        f"Service demo/x is in {tmp_path}/a.yaml and {tmp_path}/b.yaml; {tmp_path}/a.yaml counts"
        in caplog.text
    )
    caplog.clear()
    write(tmp_path / "b.yaml", service("x", 3))
    assert not step(folder)
    assert not caplog.text


def test_what_is_not_read_is_named_once_as_loud_as_it_matters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deployment = "apiVersion: apps/v1\nkind: Deployment\n---\n"
    grpc_route = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\n"
    write(tmp_path / "a.yaml", deployment + grpc_route)
    write(tmp_path / "b.yaml", deployment + grpc_route)
    step(ManifestFolder(tmp_path))
    said = [(record.levelno, record.getMessage().rpartition(": ")[2]) for record in caplog.records]
    assert said == [
        (logging.DEBUG, "apps/v1 Deployment is not read by Blixt"),
        (logging.WARNING, "gateway.networking.k8s.io/v1 GRPCRoute is not read by Blixt"),
    ]


def test_an_object_twice_in_a_file_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.yaml", service("x", 1) + "---\n" + service("x", 2))
    step(ManifestFolder(tmp_path))
    assert "Service demo/x is twice in" in caplog.text


def test_a_file_written_between_look_and_load_is_left_for_the_next_look(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    folder = ManifestFolder(tmp_path)
    seen = folder.look()
    assert seen is not None
    write(tmp_path / "a.yaml", service("b"))
    assert not folder.load(seen, folder.pending(seen))
    assert upserted(step(folder)) == ["b"]


def test_a_file_removed_between_look_and_load_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", service("a"))
    folder = ManifestFolder(tmp_path)
    seen = folder.look()
    assert seen is not None
    (tmp_path / "a.yaml").unlink()
    assert not folder.load(seen, folder.pending(seen))
    assert folder.problems == {}


#: None: the file is removed.
texts = st.none() | st.sampled_from(
    [
        "",
        service("a", 1),
        service("a", 2),
        service("b", 1),
        service("a", 1) + "---\n" + service("b", 2),
        service("b", 1) + "---\n" + service("c", 1) + "---\n" + service("b", 2),
        '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}',
        "apiVersion: apps/v1\nkind: Deployment\n",
    ]
)
edits = st.lists(st.dictionaries(st.sampled_from(["a.yaml", "b.yml", "d/c.json"]), texts), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits)
def test_any_edits_in_any_order_lead_where_a_fresh_load_does(
    tmp_path_factory: pytest.TempPathFactory, edits: list[dict[str, str | None]]
) -> None:
    root = tmp_path_factory.mktemp("root")
    folder = ManifestFolder(root)
    sent: dict[ObjectKey, Object] = {}
    for edit in edits:
        for name, text in edit.items():
            if text is None:
                (root / name).unlink(missing_ok=True)
            else:
                write(root / name, text)
        changes = step(folder)
        for key in changes.deletions:
            del sent[key]
        sent |= {one.key: one for one in changes.upserts}
        fresh = ManifestFolder(root)
        step(fresh)
        assert sent == folder.objects() == fresh.objects()
