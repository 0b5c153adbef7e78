"""An explanation as lines for a terminal: what volumes have in common stands once, with their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from fastdcm.look.referrers import class_text
from fastdcm.look.terminal import clean, count_text
from fastdcm.look.volume_text import Sentence

if TYPE_CHECKING:
    from fastdcm.look.explain import ExplainedVolume, Explanation, ListedSeries
    from fastdcm.look.left_out import LeftOut

LABEL = 9
LEAST_TEXT = 24
"""Narrowest column of text; a narrower terminal wraps by itself."""
VOLUMES_LISTED = 6
SPLITS_LISTED = 3
"""Splits of alike volumes that are written out before the rest is counted."""
FLAGS_LISTED = 4


def explanation_lines(explanation: Explanation, width: int) -> Iterator[Text]:
    """Yield the printed lines of an explanation.

    Parameters
    ----------
    explanation : Explanation
        From ``explain``.
    width : int
        Columns of the terminal.
    """
    if explanation.series is None:
        yield from _list_lines(explanation, width)
        return
    words = [clean(explanation.modality), clean(explanation.description)]
    nouns = {"file": explanation.files, "frame": explanation.frames, "volume": len(explanation.volumes)}
    counts = ", ".join(count_text(n, noun) for noun, n in nouns.items())
    yield Text(f"series {clean(explanation.series) or '(no UID)'}", "bold")
    yield from _wrapped(f"{' '.join(filter(None, words)) or 'series'}: {counts}", width)
    if explanation.referred_by:
        yield from _wrapped(f"referred to by {class_text(explanation.referred_by)}", width)
    told: set[str] = set()
    for alike in _alike(explanation.volumes):
        yield Text("")
        yield from _volume_lines(alike, width, told)
    if explanation.left_out:
        yield Text("")
        yield from _left_out_lines(explanation.left_out, width, told)


# ---------------------------------------------------------------------------- volumes


def _alike(volumes: Sequence[ExplainedVolume]) -> list[list[ExplainedVolume]]:
    """Return volumes of which the same is said, but for what splits them from one another."""
    groups: dict[tuple[object, ...], list[ExplainedVolume]] = {}
    for volume in volumes:
        common = tuple(sentence for sentence in volume.sentences if sentence.topic != "split")
        groups.setdefault((volume.title, common), []).append(volume)
    return list(groups.values())


def _volume_lines(alike: Sequence[ExplainedVolume], width: int, told: set[str]) -> Iterator[Text]:
    first = alike[0]
    yield from _wrapped(f"{_called(alike)}  {first.title}", width, "bold cyan")
    splits = list(dict.fromkeys(volume.splits for volume in alike))
    for sentence in (one for one in first.sentences if one.topic in ("withheld", "kind")):
        yield from _sentence_lines(sentence, width, told)
    for own in splits[:SPLITS_LISTED]:
        for sentence in own:
            number = next(volume.index for volume in alike if volume.splits == own)
            which = f"Volume {number}: " if len(splits) > 1 else ""
            yield from _sentence_lines(sentence, width, told, which)
    if len(splits) > SPLITS_LISTED:
        rest = f"and {len(splits) - SPLITS_LISTED} more volumes in the same way; --json has all."
        yield from _wrapped(rest, width, label="split")
    for sentence in (one for one in first.sentences if one.topic not in ("withheld", "kind", "split")):
        yield from _sentence_lines(sentence, width, told)


def _called(alike: Sequence[ExplainedVolume]) -> str:
    numbers = [volume.index for volume in alike]
    if len(numbers) == 1:
        return f"volume {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"volumes {numbers[0]} to {numbers[-1]}"
    more = f" ... {len(numbers)} in all" if len(numbers) > VOLUMES_LISTED else ""
    return f"volumes {', '.join(map(str, numbers[:VOLUMES_LISTED]))}{more}"


def _sentence_lines(sentence: Sentence, width: int, told: set[str], prefix: str = "") -> Iterator[Text]:
    """Yield one sentence under its label; an option is named once."""
    code = f"{sentence.code}: " if sentence.topic == "flag" else ""
    style = {"flag": "yellow", "withheld": "red"}.get(sentence.topic, "")
    yield from _wrapped(prefix + code + sentence.text, width, style, sentence.topic)
    yield from _change_lines(sentence.change, width, told)


def _change_lines(change: str, width: int, told: set[str]) -> Iterator[Text]:
    if change and change not in told:
        told.add(change)
        yield from _wrapped(f"-> {change}", width, "green", label="")


def _left_out_lines(left_out: Sequence[LeftOut], width: int, told: set[str]) -> Iterator[Text]:
    yield Text(f"in no volume: {count_text(sum(one.files for one in left_out), 'file')}", "bold cyan")
    for one in left_out:
        what = "/".join(dict.fromkeys(filter(None, (one.outcome, one.code))))
        yield from _wrapped(f"{what}: {one.reason}", width, label=count_text(one.files, "file"))
        yield from _change_lines(one.change, width, told)
        uids = [clean(uid) for uid in one.sop_instance_uids]
        if uids:
            more = " ..." if one.files > len(uids) else ""
            yield from _wrapped(f"{', '.join(uids)}{more}", width, "dim", label="")


# ---------------------------------------------------------------------------- several series


def _list_lines(explanation: Explanation, width: int) -> Iterator[Text]:
    listed = explanation.listed
    yield Text(f"{count_text(len(listed), 'series', 'series')} in {count_text(explanation.files, 'file')}", "bold")
    for one in listed:
        yield from _listed_lines(one, width)
    if explanation.left_out:
        yield Text("")
        yield from _left_out_lines(explanation.left_out, width, set())
    if listed:
        yield Text("")
        yield from _wrapped("explain one of them with --series UID (or the end of the UID)", width)


def _listed_lines(one: ListedSeries, width: int) -> Iterator[Text]:
    """Yield the UID of a series, and below it what it is; in one line where it fits."""
    words = [clean(one.modality), clean(one.description), count_text(one.files, "file")]
    flags = [clean(flag) for flag in one.flags[:FLAGS_LISTED]] + ["..."] * (len(one.flags) > FLAGS_LISTED)
    words.append(count_text(one.volumes, "volume") if one.volumes else "no image")
    said = "  ".join(filter(None, words)) + (f"  {', '.join(flags)}" if flags else "")
    uid = clean(one.series) or "(no UID)"
    line = Text.assemble(f"{uid}  ", (said, "yellow" if flags else ""))
    if cell_len(line.plain) <= width:
        yield line
        return
    yield Text(uid)
    below = Text(f"  {said}", "yellow" if flags else "")
    below.truncate(width, overflow="ellipsis")
    yield below


# ---------------------------------------------------------------------------- wrapping


def _wrapped(text: str, width: int, style: str = "", label: str | None = None) -> Iterator[Text]:
    """Yield text in lines that fit: from the margin on, or beside a label."""
    indent = "  " if label is None else " " * (LABEL + 2)
    start = "" if label is None else f"  {label:<{LABEL - 1}} "
    for number, line in enumerate(_lines(clean(text), max(width - len(indent), LEAST_TEXT))):
        yield Text.assemble((indent if number else start, "dim"), (line, style))


def _lines(text: str, room: int) -> Iterator[str]:
    """Break text between words into lines of so many cells; a longer word has a line of its own."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and cell_len(longer) > room:
            yield line
            line = word
        else:
            line = longer
    yield line
