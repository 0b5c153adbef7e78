"""What tags are called (PS3.6), private ones as far as pydicom knows their creators (PS3.5 7.8.1)."""

from __future__ import annotations

from fastdcm.scan.pydicom_once import load_pydicom


def keyword_of(tag: int) -> str:
    """Return the keyword of a tag, empty where it has none.

    Examples
    --------
    >>> keyword_of(0x00180050), keyword_of(0x00091001)
    ('SliceThickness', '')
    """
    load_pydicom()
    from pydicom.datadict import keyword_for_tag

    return "" if tag >> 16 & 1 else keyword_for_tag(tag)


def name_of(tag: int, creator: str = "") -> str:
    """Return the name of a tag, of a private one by the creator of its block; empty where unknown.

    Examples
    --------
    >>> name_of(0x00180050), name_of(0x00080000), name_of(0x00190010)
    ('Slice Thickness', 'Group Length', 'Private Creator')
    >>> name_of(0x00191002, "GEMS_ACQU_01"), name_of(0x00191002)
    ('Detector Channel', '')
    """
    load_pydicom()
    from pydicom.datadict import dictionary_description, private_dictionary_description

    if tag & 0xFFFF == 0:
        return "Group Length"
    if is_creator(tag):
        return "Private Creator"
    try:
        return private_dictionary_description(tag, creator) if tag >> 16 & 1 else dictionary_description(tag)
    except KeyError:
        return ""


def private_vr(tag: int, creator: str) -> str:
    """Return the VR of a private element, UN where unknown.

    Examples
    --------
    >>> private_vr(0x00191002, "GEMS_ACQU_01"), private_vr(0x00191002, "ACME")
    ('SL', 'UN')
    """
    load_pydicom()
    from pydicom.datadict import private_dictionary_VR

    try:
        return private_dictionary_VR(tag, creator).split(" or ")[0]
    except KeyError:
        return "UN"


def is_creator(tag: int) -> bool:
    """Whether a tag is a Private Creator, which reserves a block of its group."""
    return bool(tag >> 16 & 1) and 0x10 <= tag & 0xFFFF <= 0xFF


def creator_tag(tag: int) -> int | None:
    """Return where the creator of a private element stands, None for public ones, creators and what is in no block.

    Examples
    --------
    >>> hex(creator_tag(0x00191102) or 0)
    '0x190011'
    """
    block = (tag & 0xFFFF) >> 8
    return (tag & 0xFFFF0000) | block if tag >> 16 & 1 and block >= 0x10 else None
