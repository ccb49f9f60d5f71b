"""Work that blocks, beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from blixt_backend.planes.base import PlaneError
from blixt_backend.planes.ebpf.libbpf import BpfError, LibbpfMissingError
from blixt_backend.planes.nftables.libnftables import NftError

_T = TypeVar("_T")


async def blocking(function: Callable[..., _T], *arguments: Any) -> _T:
    """Run in a thread, and to its end even if the caller is cancelled: it would be half a write, and
    its descriptors might be closed under it. Raises PlaneError for its OSError."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    except (BpfError, LibbpfMissingError, NftError) as error:
        raise PlaneError(str(error)) from error
    except OSError as error:
        raise PlaneError(f"{error.filename or function.__name__.strip('_')}: {error.strerror}") from error
