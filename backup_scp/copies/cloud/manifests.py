"""Manifests: lists of what a copy has, kept at the copy itself, so that it can be learned without our index.

A manifest is JSON Lines, compressed by gzip; a line for each image.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from backup_scp.errors import DigestMismatch
from backup_scp.ports import CopyItem, ListedImage, StoredCopy

_KEYS = ("name", "object_sha256", "object_size_bytes", "object_version", "location", "sha256", "size_bytes")


def listed(item: CopyItem, stored: StoredCopy) -> ListedImage:
    """Return the line of an image that was stored."""
    return ListedImage(item.held.location, item.held.sha256, item.held.size_bytes, stored)


def write_manifest(images: Iterable[ListedImage], into: BinaryIO) -> None:
    """Write a manifest."""
    with gzip.GzipFile(fileobj=into, mode="wb", mtime=0) as compressed:
        for image in images:
            values = (*image.stored, image.location, image.sha256, image.size_bytes)
            entry = dict(zip(_KEYS, values, strict=True))
            compressed.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")


def read_manifest(stream: BinaryIO) -> Iterator[ListedImage]:
    """Yield the images of a manifest.

    Raises
    ------
    DigestMismatch
        It is no manifest, or is damaged.
    """
    try:
        with gzip.GzipFile(fileobj=stream, mode="rb") as lines:
            for line in lines:
                entry = json.loads(line)
                stored = StoredCopy(
                    entry["name"], entry["object_sha256"], entry["object_size_bytes"], entry["object_version"]
                )
                yield ListedImage(entry["location"], entry["sha256"], entry["size_bytes"], stored)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise DigestMismatch(f"A manifest of the copy is damaged ({type(error).__name__})") from None
