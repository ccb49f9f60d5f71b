"""One family's object: sized, its pinned maps taken over, loaded; the
programs' descriptors while it is open."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.kernel import NAME_BYTES
from blixt_backend.planes.ebpf.layout import IPV6, Layout
from blixt_backend.planes.ebpf.libbpf import BpfError, BpfObject, obj_pin
from blixt_backend.planes.ebpf.maps import ARRAY, BPF_F_NO_PREALLOC, HASH, BpfMap, create_map
from blixt_backend.planes.ebpf.sizes import OPTION_OF, Sizes
from blixt_backend.planes.ebpf.upgrade import share, share_unchanged

log = logging.getLogger(__name__)

OBJECTS = Path(__file__).parents[2] / "objects"
#: An object's name without the family: programs on devices, the same for older kernels, those on sockets,
#: and those that we run ourselves.
ON_DEVICES, ON_DEVICES_OLDER, ON_SOCKETS, ON_REQUEST = "blixt", "older", "sock", "task"
XDP_PROGRAM = "uplink_xdp"
_KERNEL_BTF = Path("/sys/kernel/btf")
_BPF_F_IPV6 = 1 << 7


class Programs:
    """One family's loaded programs, of one object. `close` drops them; those behind pinned links run on."""

    def __init__(self, layout: Layout, loaded: BpfObject, left_out: Collection[str] = ()) -> None:
        self.layout = layout
        self._object = loaded
        self.fds = {name: loaded.program_fd(name) for name in loaded.programs if name not in left_out}

    @classmethod
    def load(
        cls,
        layout: Layout,
        folder: Path,
        sizes: Sizes,
        rodata: Mapping[str, int],
        objects: Path = OBJECTS,
        name: str = ON_DEVICES,
        left_out: Collection[str] = (),
        predecessor: Path | None = None,
    ) -> Programs:
        """Take over the maps pinned in `folder`, make those that are missing. Raises PlaneError, BpfError.

        `left_out`: programs not to load. `predecessor`: where another version's maps are pinned.
        """
        opened = BpfObject(objects / f"{name}{6 if layout is IPV6 else 4}.bpf.o")
        try:
            missing = rodata.keys() - opened.set_rodata(dict(rodata))
            if missing:
                raise PlaneError(
                    f"{opened.path.name} lacks {', '.join(sorted(missing))}: build it anew, `make bpf`"
                )
            for map_name, entries in sizes.by_map().items():
                if map_name in opened.maps:
                    opened.set_max_entries(map_name, entries)
            if predecessor:
                share_unchanged(opened, predecessor, folder)
            for map_name in opened.pinned_by_name():
                _keep_pinned_size(opened, map_name, folder / map_name)
                opened.set_pin_path(map_name, folder / map_name)
            for program in left_out:
                opened.set_autoload(program, False)
            opened.load()
            _ensure_own_maps(folder, opened.max_entries("services"), predecessor)
            return cls(layout, opened, left_out)
        except BaseException:
            opened.close()
            raise

    def map_fd(self, name: str) -> int:
        return self._object.map_fd(name)

    def close(self) -> None:
        self._object.close()


def chain_xdp(ipv4_maps: Path, ipv6: Programs) -> None:
    """IPv4's XDP program hands what isn't IPv4 to IPv6's."""
    with BpfMap.open(ipv4_maps / "xdp_next") as following:
        following.update(bytes(4), ipv6.fds[XDP_PROGRAM].to_bytes(4, sys.byteorder))


def checksum_ipv6_flag() -> int:
    """BPF_F_IPV6 of bpf_l4_csum_replace, if this kernel knows it: an older one rejects unknown flags."""
    return _BPF_F_IPV6 if kernel_knows("BPF_F_IPV6") else 0


def kernel_knows(name: str, module: str = "") -> bool:
    """Whether the BTF of the kernel, or of that module if it is loaded, has a type, function or value of that
    name."""
    return any(_is_in(name, _KERNEL_BTF / part) for part in ("vmlinux", module) if part)


def _is_in(name: str, path: Path) -> bool:
    if not path.is_file():
        return False
    wanted, tail = b"\0%s\0" % name.encode(), b""
    with path.open("rb") as btf:
        while chunk := btf.read(1 << 20):  # several megabytes, of which none should stay in memory
            if wanted in tail + chunk:
                return True
            tail = chunk[-len(wanted) :]
    return False


def _keep_pinned_size(opened: BpfObject, name: str, pin: Path) -> None:
    try:
        pinned = BpfMap.open(pin)
    except BpfError as error:
        if error.errno == errno.ENOENT:
            return
        raise
    with pinned:
        held, asked = pinned.info.max_entries, opened.max_entries(name)
        if (pinned.info.key_size, pinned.info.value_size) != opened.entry_sizes(name):
            raise PlaneError(
                f"{pin} was made by another build of Blixt: remove it all with blixt-backend --cleanup"
            )
        if held != asked:
            option = f"; for {OPTION_OF[name]} to count, --cleanup first" if name in OPTION_OF else ""
            log.warning("map %s keeps its %d entries, not %d: it is in use%s", pin, held, asked, option)
            opened.set_max_entries(name, held)


def _ensure_own_maps(folder: Path, services: int, predecessor: Path | None) -> None:
    """Userspace's own: service id -> namespace/name:port/PROTOCOL, and how many ports don't fit."""
    own = {
        "names": (HASH, NAME_BYTES, services, BPF_F_NO_PREALLOC),
        "unfit": (ARRAY, 4, 1, 0),
    }
    for name, (kind, value_size, entries, flags) in own.items():
        if predecessor:
            share(predecessor / name, folder / name)
        if not (folder / name).exists():
            with BpfMap(create_map(kind, name, 4, value_size, entries, flags)) as made:
                obj_pin(made.fd, folder / name)
