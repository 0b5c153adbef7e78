"""The files that the index pages of an HTTP server lead to; apart, so that only who needs them loads HTTP and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.error import HTTPError, URLError
from urllib.parse import urljoin
from urllib.request import HTTPRedirectHandler, build_opener

from fastdcm.errors import Code, SourceError

PAGE_BYTES_MAX = 2**26
FOLDERS_MAX = 2**20
DEPTH_MAX = 64
TIMEOUT_S = 60.0


class _Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


class _NoRedirect(HTTPRedirectHandler):
    """A server that leads elsewhere is not followed: it is not the one that was named."""

    def redirect_request(self, *request: object) -> None:
        return None


def linked_files(root: str) -> Iterator[str]:
    """Yield what index pages lead to, relative to the root: those below it alone, each once.

    Raises
    ------
    SourceError
        A page cannot be read, or is no index.
    """
    pending, seen = [root], {root}
    while pending:
        page = pending.pop()
        for link in _links_of(page):
            url = urljoin(page, link).partition("#")[0]
            if not url.startswith(page) or url == page or "?" in url or url in seen or ".." in url.split("/"):
                continue
            seen.add(url)
            if not url.endswith("/"):
                yield url[len(root) :]
            elif url.count("/") - root.count("/") < DEPTH_MAX and len(seen) < FOLDERS_MAX:
                pending.append(url)


def _links_of(page: str) -> list[str]:
    try:
        with build_opener(_NoRedirect).open(page, timeout=TIMEOUT_S) as answer:
            if answer.headers.get_content_type() not in ("text/html", "application/xhtml+xml"):
                raise SourceError(Code.UNREADABLE, "the server shows no index of this folder; name its files")
            text = answer.read(PAGE_BYTES_MAX)
    except HTTPError as error:
        raise SourceError(Code.UNREADABLE, f"the server answered {error.code}") from None
    except (URLError, OSError, ValueError):
        raise SourceError(Code.UNREADABLE, "no connection to the server") from None
    links = _Links()
    links.feed(text.decode("utf-8", "replace"))
    return links.found
