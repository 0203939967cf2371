"""Files of a pinned revision from the Hugging Face Hub (or HF_ENDPOINT), each checked by the digest the Hub gives."""

import hashlib
import importlib
import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from atelier_server.errors import FailedPrecondition, Unavailable


def download(
    repo: str, revision: str, folder: Path, patterns: Sequence[str], ignore_patterns: Sequence[str] = ()
) -> None:
    """Downloads the files that match, each with a progress bar. What an earlier attempt left half done is gone on with.

    The Hub's own snapshot_download begins partial files anew, which may be gigabytes.

    Raises:
        Unavailable: The Hub cannot be reached, or what came is not what it says to hold.
        FailedPrecondition: The Hub refuses, or nothing there matches.
    """
    hub: Any = importlib.import_module("huggingface_hub")
    errors: Any = importlib.import_module("huggingface_hub.errors")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        listed = list(hub.HfApi(endpoint=endpoint).list_repo_tree(repo, revision=revision, recursive=True))
        files = [entry for entry in listed if hasattr(entry, "blob_id")]
        files = [entry for entry in files if _wanted(entry.path, patterns, ignore_patterns)]
        for entry in files:
            url = hub.hf_hub_url(repo, entry.path, revision=revision, endpoint=endpoint)
            _get(url, folder / entry.path, entry, repo)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise FailedPrecondition(
            f"{repo} at {revision} is not there, or asks for a login: check source_repo and source_revision, or run "
            "`hf auth login`",
            reason="SOURCE_NOT_FOUND",
        ) from error
    except (errors.HTTPError, OSError) as error:
        raise Unavailable(f"{repo} cannot be downloaded: {error}; run the command again to go on") from error
    if not files:
        raise FailedPrecondition(f"{repo} at {revision} holds none of the files that are needed")


def _wanted(path: str, patterns: Sequence[str], ignore_patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, one) for one in patterns) and not any(fnmatch(path, one) for one in ignore_patterns)


def _get(url: str, path: Path, entry: Any, repo: str) -> None:
    """Downloads one file, unless it is there; `entry` is what the Hub tells of it."""
    if path.is_file() and _digest(path, entry) == _expected(entry):
        return
    transfer: Any = importlib.import_module("huggingface_hub.file_download")
    headers = importlib.import_module("huggingface_hub.utils").build_hf_headers()
    partial = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as file:
        transfer.http_get(
            url,
            file,
            resume_size=file.tell(),
            expected_size=entry.size,
            displayed_filename=entry.path,
            headers={**headers, "Accept-Encoding": "identity"},
        )
    found = _digest(partial, entry)
    if found != _expected(entry):
        partial.unlink()
        raise Unavailable(
            f"{entry.path} of {repo} came damaged ({found[:12]}… instead of {_expected(entry)[:12]}…); run the command "
            "again",
            reason="DAMAGED_DOWNLOAD",
        )
    partial.replace(path)


def _expected(entry: Any) -> str:
    """Large files have a SHA-256, small ones git's SHA-1 of a blob."""
    return str(entry.lfs.sha256 if entry.lfs else entry.blob_id)


def _digest(path: Path, entry: Any) -> str:
    if entry.lfs:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
