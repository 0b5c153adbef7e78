"""Objects by URL: ``s3://bucket/key``, ``gs://``, ``az://container/key``, ``http(s)://host/path``, ``memory://name/key``.

The one place that knows obstore. Settings are the usual ones of the environment (``AWS_ENDPOINT_URL``,
``AWS_ALLOW_HTTP``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID`` ...); S3 is addressed by path. Requests are tried again for a
minute, those to ``http`` servers for some seconds. What a server answers is told by its status and code only, so that
no key and no signature gets into a message. A process that used a store must not fork: workers are spawned.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from fastdcm.errors import Code, SourceError, TargetError, UsageError

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SCHEMES = ("s3", "gs", "az", "http", "https", "memory")
SINGLE_PUT_BYTES = 1 << 30
"""Files up to this are one request, which leaves nothing behind where it fails; larger ones are sent in parts."""
PART_BYTES = 64 << 20
"""Of a file that is sent in parts; one at a time."""
RETRY_S = 60
REQUEST_S = 300
"""One whole request, a shard's upload through a slow line included."""
SILENCE_S = 30
"""Without one more byte of an answer."""

_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""Set to true these allow an endpoint that is plain http."""
_URL = re.compile(r"([a-z][a-z0-9+.-]*)://([^/]*)(?:/(.*))?", re.DOTALL)


class ObjectStatus(NamedTuple):
    """What a server says of an object."""

    size: int
    mtime_ns: int
    etag: str | None


class ListedObject(NamedTuple):
    """One object below a URL."""

    key: str
    """Relative to the URL that was listed; of the URL itself its last part."""
    size: int
    mtime_ns: int


def is_url(path: str | os.PathLike[str]) -> bool:
    """Tell whether this names an object store, not a path of this machine."""
    match = _URL.match(path) if isinstance(path, str) else None
    return match is not None and match[1] in SCHEMES


def join(url: str, key: str) -> str:
    """Return the URL of a key below another URL; of ``http`` it is percent-encoded."""
    return f"{url.rstrip('/')}/{quote(key) if url.startswith('http') else key}"


def locate(url: str) -> tuple[ObjectStore, str]:
    """Return the store of a URL, one for each bucket in a process, and the key in it.

    Raises
    ------
    UsageError
        It is no such URL, or the library for object stores is not installed.
    """
    match = _URL.fullmatch(url)
    if match is None or match[1] not in SCHEMES or not match[2]:
        raise UsageError(f"{url} is no URL of an object store: {', '.join(f'{name}://' for name in SCHEMES[:-1])}")
    scheme, root, key = match[1], match[2], match[3] or ""
    if "@" in root:
        raise UsageError(f"a {scheme}:// URL has no user and no password: keys are taken from the environment")
    if scheme.startswith("http"):
        if "?" in key or "#" in key:
            raise UsageError("an http URL with ? or # cannot be read: download it, or give the plain URL")
        key = unquote(key)
    return _open_store(scheme, root), key.strip("/")


@lru_cache(maxsize=64)
def _open_store(scheme: str, root: str) -> ObjectStore:
    from datetime import timedelta

    try:
        import obstore.store as stores
    except ImportError:
        raise UsageError(f"{scheme}:// needs the package obstore: pip install 'fastdcm[remote]'") from None
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=5),
        "timeout": timedelta(seconds=REQUEST_S),
        "read_timeout": timedelta(seconds=SILENCE_S),
    }
    retry: RetryConfig = {
        # The time decides, as a server that restarts refuses at once; a wrong http address is told sooner.
        "max_retries": 8 if scheme.startswith("http") else 1000,
        "retry_timeout": timedelta(seconds=RETRY_S),
        # A pause is random between the first and base times the one before: with 2 it would not grow.
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 4},
    }
    if os.environ.get(_ALLOW_HTTP.get(scheme, ""), "").lower() in ("1", "true", "yes"):
        client["allow_http"] = True  # options given here hide that setting from obstore
    try:
        match scheme:
            case "s3":
                return stores.S3Store(root, client_options=client, retry_config=retry)
            case "gs":
                return stores.GCSStore(root, client_options=client, retry_config=retry)
            case "az":
                return stores.AzureStore(root, client_options=client, retry_config=retry)
            case "memory":
                return stores.MemoryStore()
        client["allow_http"] = scheme == "http"
        return stores.HTTPStore.from_url(f"{scheme}://{root}", client_options=client, retry_config=retry)
    except _errors() as error:
        raise UsageError(f"{scheme}://{root} cannot be used: {_reason(error)}") from None


def forget_stores() -> None:
    """Open stores anew when they are next used: the environment has changed."""
    _open_store.cache_clear()


# ---------------------------------------------------------------------------- read


def stat(url: str) -> ObjectStatus | None:
    """Return size, time and tag of an object; None where there is none.

    Raises
    ------
    SourceError
        The server cannot be asked.
    """
    import obstore

    store, key = locate(url)
    if not key:
        return None
    with _reading():
        try:
            meta = obstore.head(store, key)
        except FileNotFoundError:
            return None
        return _status(meta)


def _status(meta: ObjectMeta) -> ObjectStatus:
    return ObjectStatus(meta["size"], int(meta["last_modified"].timestamp()) * 10**9, meta["e_tag"])


def read_range(url: str, offset: int, length: int, *, etag: str | None = None) -> bytes:
    """Return the bytes of an object from ``offset``; fewer than ``length`` at its end.

    Parameters
    ----------
    url : str
        Of the object.
    offset, length : int
        First byte, and how many; the caller bounds ``length``.
    etag : str, optional
        What ``stat`` said; it must still be so.

    Raises
    ------
    SourceError
        There is no such object (``unreadable``), it may not be read (``permission``), or it is another one than
        before (``changed``).
    """
    import obstore

    store, key = locate(url)
    if length <= 0:
        return b""
    with _reading():
        found = obstore.get(store, key, options={"range": (offset, offset + length)})
        if etag is not None and found.meta["e_tag"] != etag:
            raise SourceError(Code.CHANGED, "the object is not the one that was scanned: its ETag differs")
        return bytes(found.bytes())


def read_start(url: str, length: int) -> tuple[ObjectStatus, bytes] | None:
    """Return what a server says of an object, and its first bytes, by one request; None where there is no object.

    Parameters
    ----------
    url : str
        Of the object.
    length : int
        How many bytes, at least one; fewer come where it has fewer.

    Raises
    ------
    SourceError
        It may not be read, or the server cannot be asked.
    """
    import obstore
    from obstore.exceptions import BaseError

    store, key = locate(url)
    if not key:
        return None
    with _reading():
        try:
            found = obstore.get(store, key, options={"range": (0, length)})
        except FileNotFoundError:
            return None
        except BaseError as error:
            status = stat(url) if _is_bad_range(error) else None
            if status is None or status.size:
                raise
            return status, b""  # it has no range at all
        return _status(found.meta), bytes(found.bytes())


def read_end(url: str, length: int) -> bytes:
    """Return the last bytes of an object, by a suffix range where there are such; errors as of ``read_range``."""
    import obstore

    store, key = locate(url)
    if url.startswith("az:"):  # has none
        found = stat(url)
        start = max(found.size - length, 0) if found is not None else 0
        return read_range(url, start, length)
    with _reading():
        return bytes(obstore.get(store, key, options={"range": {"suffix": length}}).bytes())


def read(url: str, limit_bytes: int) -> bytes | None:
    """Return a whole small object; None where there is none.

    Raises
    ------
    SourceError
        It has more bytes than ``limit_bytes``, or cannot be read.
    """
    import obstore

    store, key = locate(url)
    if not key:
        return None
    with _reading():
        try:
            found = obstore.get(store, key)
        except FileNotFoundError as error:
            if _is_no_bucket(error):
                raise
            return None
        if found.meta["size"] > limit_bytes:
            raise SourceError(Code.UNREADABLE, f"an object of {found.meta['size']} bytes; {limit_bytes} are allowed")
        return bytes(found.bytes())


def list_objects(url: str) -> Iterator[ListedObject]:
    """Yield the objects below a URL in the order of their keys; ``a/b`` has ``a/b/c`` below it, not ``a/bc``.

    Raises
    ------
    SourceError
        The server cannot be asked, cannot list (``http``), or gives its keys in no order.
    """
    import obstore

    store, prefix = locate(url)
    if url.startswith("http"):
        raise SourceError(Code.UNREADABLE, "an http server has no list of its files: name each file")
    skip = len(prefix) + 1 if prefix else 0
    last = ""
    with _reading():
        for page in obstore.list(store, prefix or None, chunk_size=1000):
            for meta in page:
                if meta["path"] < last:
                    raise SourceError(
                        Code.UNREADABLE, "the server lists its objects in no order; fastdcm needs them sorted"
                    )
                last = meta["path"]
                yield ListedObject(last[skip:], meta["size"], int(meta["last_modified"].timestamp()) * 10**9)


# ---------------------------------------------------------------------------- write


def put(url: str, data: bytes, *, create: bool = False) -> bool:
    """Write an object.

    Parameters
    ----------
    url : str
        Where.
    data : bytes
        All of it.
    create : bool
        Only if there is none (``If-None-Match: *``); servers that ignore this answer as if there were none.

    Returns
    -------
    bool
        False where ``create`` found one. A request whose answer was lost may have made it itself: read it to know.

    Raises
    ------
    TargetError
        It cannot be written.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    store, key = locate(url)
    with _writing(url):
        try:
            obstore.put(store, key, data, mode="create" if create else "overwrite", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
    return True


def put_file(url: str, path: str | os.PathLike[str]) -> int:
    """Write a file as an object, without holding it in memory; return its bytes.

    Raises
    ------
    TargetError
        It cannot be written.
    """
    import obstore

    store, key = locate(url)
    with open(path, "rb") as file, _writing(url):
        size = os.fstat(file.fileno()).st_size
        if not size:
            obstore.put(store, key, b"", use_multipart=False)
        elif size <= SINGLE_PUT_BYTES:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                obstore.put(store, key, mapped, use_multipart=False)
        else:
            obstore.put(store, key, file, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=1)
    return size


def delete(urls: Iterable[str]) -> None:
    """Remove objects, in the order given; those that are not there are no error.

    Raises
    ------
    TargetError
        One cannot be removed.
    """
    import obstore

    for url in urls:
        store, key = locate(url)
        with _writing(url):
            try:
                obstore.delete(store, key)
            except FileNotFoundError as error:
                if _is_no_bucket(error):
                    raise


# ---------------------------------------------------------------------------- errors


def _errors() -> tuple[type[Exception], ...]:
    """Return what obstore raises."""
    from obstore.exceptions import BaseError

    return BaseError, OSError, ValueError


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except _errors() as error:
        code = Code.PERMISSION if _is_denied(error) else Code.UNREADABLE
        raise SourceError(code, f"the object store cannot be read: {_reason(error)}") from None


@contextmanager
def _writing(url: str) -> Iterator[None]:
    try:
        yield
    except _errors() as error:
        raise TargetError(f"cannot write {url}: {_reason(error)}") from None


def _is_denied(error: Exception) -> bool:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    named = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    return named or re.search(r"status code: 40[13]\b", str(error)) is not None  # of a list it is a general error


def _is_no_bucket(error: Exception) -> bool:
    return re.search("<Code>(NoSuchBucket|ContainerNotFound)</Code>", str(error)) is not None


def _is_bad_range(error: Exception) -> bool:
    return re.search(r"status code: 416\b|[Rr]ange", str(error)) is not None


_REASONS = (
    ("NoSuchBucket", "there is no such bucket"),
    ("ContainerNotFound", "there is no such container"),
    ("BadScheme", "its endpoint is plain http; AWS_ALLOW_HTTP=true (GOOGLE_, AZURE_) allows that"),
    ("169.254.169.254", "no keys were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
     "or AWS_SKIP_SIGNATURE=true for a public bucket"),
    ("kind: Connect", "no connection to the server; check its endpoint in the environment (AWS_ENDPOINT_URL) "
     "and the network"),
    ("kind: Timeout", "the server did not answer in time"),
    ("invalid path", "a key has an empty part, . or .., which cannot be addressed; rename it"),
    ("Could not parse path", "a key has an empty part, . or .., which cannot be addressed; rename it"),
)  # fmt: skip


def _reason(error: Exception) -> str:
    """Say what went wrong, and nothing of the request itself."""
    text = str(error)
    status = re.search(r"status code: (\d{3})", text)
    name = re.search(r"<Code>(\w{1,60})</Code>", text)
    answered = f"the server answered {status[1] if status else ''} {name[1] if name else ''}".rstrip()
    if _is_denied(error):
        return f"access denied ({answered}); check the keys in the environment and the rights of their owner"
    for sign, reason in _REASONS:
        if sign in text:
            return reason
    if status:
        return answered
    if isinstance(error, FileNotFoundError):
        return "there is no such object"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the request failed ({type(error).__name__})"
