"""The source with real files and the real watcher."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from blixt_frontend.manifests import ManifestSource
from blixt_frontend.objects import ObjectKey
from blixt_frontend.source import Batch, KubernetesObject

PATIENCE = 20.0


def service(name: str, port: object = 80) -> str:
    spec = f"spec: {{ports: [{{port: {port}}}]}}"
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\n{spec}\n"


class Follower:
    """Adds up a source's batches, and checks what every batch promises."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, KubernetesObject] = {}
        self.batches: list[Batch] = []
        self._changed = asyncio.Condition()

    async def follow(self, source: ManifestSource) -> None:
        async with aclosing(source.events()) as events:  # type: ignore[type-var]  # an async generator
            async for batch in events:
                await self._take(batch)

    async def _take(self, batch: Batch) -> None:
        assert batch.complete
        assert not self.batches or batch.upserts or batch.deletions
        for key in batch.deletions:
            del self.objects[key]
        for one in batch.upserts:
            assert self.objects.get(one.key) != one
            self.objects[one.key] = one
        async with self._changed:
            self.batches.append(batch)
            self._changed.notify_all()

    @property
    def ports(self) -> dict[str, int]:
        """Port by name of each service."""
        services: dict[str, Any] = {key.name: one for key, one in self.objects.items()}
        return {name: one.spec.ports[0].port for name, one in services.items()}

    async def until(self, **ports: int) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: bool(self.batches) and self.ports == ports)


@asynccontextmanager
async def following(source: ManifestSource) -> AsyncIterator[Follower]:
    follower = Follower()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(follower.follow(source))
        yield follower
        task.cancel()


async def test_the_first_batch_is_everything(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "b.yaml").write_text(service("b"))
    async with following(ManifestSource(tmp_path)) as follower:
        await follower.until(a=80, b=80)
        assert len(follower.batches) == 1


async def test_an_empty_folder_is_complete_as_well(tmp_path: Path) -> None:
    async with following(ManifestSource(tmp_path)) as follower:
        await follower.until()
        assert follower.batches == [Batch(complete=True)]


async def test_a_broken_file_does_not_keep_the_rest_waiting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{")
    (tmp_path / "b.yaml").write_text(service("b"))
    source = ManifestSource(tmp_path)
    async with following(source) as follower:
        await follower.until(b=80)
        assert list(source.problems) == ["a.yaml"]
        (tmp_path / "a.yaml").write_text(service("a"))
        await follower.until(a=80, b=80)
        assert source.problems == {}


async def test_edits_of_every_kind_of_editor(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(service("a", 1))
    async with following(ManifestSource(tmp_path)) as follower:
        await follower.until(a=1)

        path.write_text(service("a", 2))  # in place
        await follower.until(a=2)

        (tmp_path / "a.yaml.swp").write_text(service("a", 3))  # renamed over
        (tmp_path / "a.yaml.swp").rename(path)
        await follower.until(a=3)

        path.rename(tmp_path / "a.yaml~")  # the old one kept as a backup, a new one written
        path.write_text(service("a", 4))
        await follower.until(a=4)

        path.unlink()
        await follower.until()
        path.write_text(service("a", 5))
        await follower.until(a=5)


async def test_half_a_file_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    """It is valid YAML up to each of its documents; taking it would delete the rest for a moment."""
    path = tmp_path / "a.yaml"
    names = [f"s{number}" for number in range(10)]
    path.write_text("---\n".join(service(name, 1) for name in names))
    async with following(ManifestSource(tmp_path, settle=1.0)) as follower:
        await follower.until(**dict.fromkeys(names, 1))
        with path.open("w") as file:
            for name in names:
                file.write(f"---\n{service(name, 2)}")
                file.flush()
                await asyncio.sleep(0.02)
        await follower.until(**dict.fromkeys(names, 2))
        assert not any(batch.deletions for batch in follower.batches)


async def test_a_single_file_that_appears_later_is_replaced_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "only.yaml"
    async with following(ManifestSource(path, interval=0.2)) as follower:
        await asyncio.sleep(0.3)
        assert follower.batches == []  # nothing was listed yet: that is not the same as an empty list
        path.parent.mkdir()
        path.write_text(service("a", 1))
        await follower.until(a=1)
        draft = tmp_path / "draft"
        draft.write_text(service("a", 2))
        draft.rename(path)
        await follower.until(a=2)
        path.unlink()
        await asyncio.sleep(0.5)
        assert follower.ports == {"a": 2}
        path.write_text(service("b", 3))
        await follower.until(b=3)


async def test_a_folder_that_vanishes_keeps_its_objects_and_is_followed_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.yaml").write_text(service("a", 1))
    source = ManifestSource(root, interval=0.2)
    async with following(source) as follower:
        await follower.until(a=1)
        root.rename(tmp_path / "away")
        await asyncio.sleep(0.5)
        assert follower.ports == {"a": 1}
        root.mkdir()
        (root / "b.yaml").write_text(service("b", 2))
        await follower.until(b=2)
        (root / "b.yaml").write_text(service("b", 3))
        await follower.until(b=3)
        shutil.rmtree(root)
        await asyncio.sleep(0.5)
        shutil.move(tmp_path / "away", root)
        await follower.until(a=1)


async def test_sub_folders_come_and_go(tmp_path: Path) -> None:
    async with following(ManifestSource(tmp_path)) as follower:
        await follower.until()
        (tmp_path / "x" / "y").mkdir(parents=True)
        (tmp_path / "x" / "y" / "a.yaml").write_text(service("a", 1))
        await follower.until(a=1)
        (tmp_path / "x" / "y" / "a.yaml").write_text(service("a", 2))
        await follower.until(a=2)
        shutil.rmtree(tmp_path / "x")
        await follower.until()


async def test_a_swapped_link_is_followed(tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}" / "a.yaml").write_text(service("a", version))
    root = tmp_path / "current"
    root.symlink_to("v1")
    async with following(ManifestSource(root, interval=0.2)) as follower:
        await follower.until(a=1)
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(root)
        await follower.until(a=2)
        (tmp_path / "v2" / "a.yaml").write_text(service("a", 3))
        await follower.until(a=3)


async def test_events_can_be_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    source = ManifestSource(tmp_path)
    for _ in range(2):
        async with following(source) as follower:
            await follower.until(a=80)


async def test_without_inotify_it_looks_at_intervals(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.main.RustNotify", exhausted)
    (tmp_path / "a.yaml").write_text(service("a", 1))
    async with following(ManifestSource(tmp_path, interval=0.1)) as follower:
        await follower.until(a=1)
        for port in (2, 3):
            (tmp_path / "a.yaml").write_text(service("a", port))
            await follower.until(a=port)
    assert caplog.text.count("OS file watch limit reached; looking every 0.1 s instead") == 1
