"""System shared memory: regions of /dev/shm that a client on this machine registered, to read inputs and write outputs.

Regions are read and written through their file, not mapped: a client that cuts its file short while the server uses it
gets an error, where a mapping would end the server.
"""

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atelier_server.errors import AlreadyExists, AtelierError, InvalidArgument, NotFound, ResourceExhausted

SHM_FOLDER = Path("/dev/shm")
MAX_REGIONS = 1024
"""Of all clients together: each keeps a file open, and others need some too."""
MAX_NAME_CHARS = 256
_KEY = re.compile(r"/?([^/\0]{1,255})")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a shared memory object; `offset` and `byte_size` are within its file."""

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int


class SharedMemory:
    """The regions that are registered.

    Args:
        folder: Where the system keeps shared memory objects.
        count: Tells how many regions there are, of all clients; None: there is one client.
    """

    def __init__(self, folder: Path = SHM_FOLDER, count: Callable[[], int] | None = None) -> None:
        self._folder = folder
        self._count = count or (lambda: len(self._regions))
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Opens a shared memory object.

        Raises:
            AlreadyExists: The name is in use.
            InvalidArgument: There is no such object, or it ends before the region.
            ResourceExhausted: There are too many regions.
        """
        if not 0 < len(name) <= MAX_NAME_CHARS:
            raise InvalidArgument(f"a region's name has 1 to {MAX_NAME_CHARS} characters", field="name")
        if name in self._regions:
            raise AlreadyExists(f"shared memory region '{name}' already in manager", field="name")
        if self._count() >= MAX_REGIONS:
            raise ResourceExhausted(f"{MAX_REGIONS} shared memory regions are registered; unregister some")
        if byte_size < 1:
            raise InvalidArgument("byte_size must be at least 1", field="byte_size")
        descriptor = self._open(key)
        size = os.fstat(descriptor).st_size
        if offset + byte_size > size:
            os.close(descriptor)
            raise InvalidArgument(
                f"Invalid shared memory region: '{key}' has {size} bytes, too few for {byte_size} from {offset}",
                field="byte_size",
            )
        self._regions[name] = Region(name, key, offset, byte_size, descriptor)

    def unregister(self, name: str) -> None:
        """Closes a region; none of this name is no error, as in Triton. "" closes all."""
        for one in [name] if name else list(self._regions):
            region = self._regions.pop(one, None)
            if region is not None:
                os.close(region.descriptor)

    def regions(self, name: str = "") -> list[Region]:
        """The region of this name, or all.

        Raises:
            NotFound: There is none.
        """
        if name and name not in self._regions:
            raise NotFound(f"Unable to find system shared memory region: '{name}'", field="name")
        return [self._regions[name]] if name else list(self._regions.values())

    def read(self, name: str, offset: int, byte_size: int) -> bytes:
        """Copies bytes out of a region.

        Raises:
            NotFound: There is no such region.
            InvalidArgument: They do not lie within it.
        """
        region = self._checked(name, offset, byte_size)
        data = os.pread(region.descriptor, byte_size, region.offset + offset)
        if len(data) != byte_size:
            raise _cut_short(name)
        return data

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Copies bytes into a region.

        Raises:
            NotFound: There is no such region.
            InvalidArgument: It is too small.
            ResourceExhausted: The system has no memory left for it; a part may have been written.
        """
        region = self._checked(name, offset, len(data))
        place = region.offset + offset
        if os.fstat(region.descriptor).st_size < place + len(data):
            raise _cut_short(name)
        try:
            written = os.pwrite(region.descriptor, data, place)
        except OSError as error:  # a region is memory only where it was written to
            raise _no_room(name, error.strerror or "") from None
        if written < len(data):
            raise _no_room(name, f"{written} of {len(data)} bytes could be written")

    def close(self) -> None:
        """Closes every region."""
        self.unregister("")

    def _checked(self, name: str, offset: int, byte_size: int) -> Region:
        region = self._regions.get(name)
        if region is None:
            raise NotFound(f"Unable to find shared memory region: '{name}'", field="shared_memory_region")
        if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
            raise InvalidArgument(
                f"Invalid offset + byte size for shared memory region: '{name}' has {region.byte_size} bytes, too few "
                f"for {byte_size} from {offset}",
                field="shared_memory_offset",
            )
        return region

    def _open(self, key: str) -> int:
        match = _KEY.fullmatch(key)
        if match is None or match[1] in (".", ".."):
            raise InvalidArgument(f"{key!r} is no name of a shared memory object: one word after a slash", field="key")
        try:
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(self._folder / match[1], flags)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise ResourceExhausted(f"'{key}' cannot be opened: {error.strerror}; unregister regions") from None
            raise _cannot_open(key, error.strerror or "") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _cannot_open(key, "it is no shared memory object")
        return descriptor


class ClientsMemory:
    """The regions of each client by its name: nobody reads or writes another one's."""

    def __init__(self) -> None:
        self._clients: dict[str, SharedMemory] = {}

    def of(self, client: str) -> SharedMemory:
        """One client's regions; "" is everybody who needs no token."""
        return self._clients.setdefault(client, SharedMemory(count=self._count))

    def _count(self) -> int:
        return sum(len(memory.regions()) for memory in self._clients.values())

    def close(self) -> None:
        """Closes every region."""
        for memory in self._clients.values():
            memory.close()


def _cannot_open(key: str, why: str) -> AtelierError:
    return InvalidArgument(f"Unable to open shared memory region: '{key}': {why}", field="key")


def _cut_short(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"shared memory region '{name}' was cut short after it was registered", field="shared_memory_region"
    )


def _no_room(name: str, why: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"shared memory region '{name}' cannot be written: {why}; unlink what is not needed, or give the system more",
        field="shared_memory_region",
    )
