"""Stores at URLs: everything that a folder answers, a bucket answers too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastdcm
from fastdcm.cli.entry import run
from fastdcm.errors import UsageError
from fastdcm.load.volume import Store, Volume
from tests.converted import convert
from tests.dicomgen import make_series, mixed_folder
from tests.s3server import s3_server

URL = "s3://bucket/some where/out.zarr"


class Twin(NamedTuple):
    """One store twice."""

    path: Path
    source: Path
    boto: Any


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twin]:
    folder = tmp_path_factory.mktemp("remote")
    mixed_folder(folder / "in")
    make_series(folder / "in" / "more", n=7, series="more")
    path = convert(folder / "in").path
    with s3_server() as boto, warnings.catch_warnings():
        for file in path.rglob("*"):
            if file.is_file():
                key = f"some where/out.zarr/{file.relative_to(path).as_posix()}"
                boto.put_object(Bucket="bucket", Key=key, Body=file.read_bytes())
        yield Twin(path, folder / "in", boto)


def both(twin: Twin) -> tuple[Store, Store]:
    local, remote = fastdcm.open(twin.path), fastdcm.open(URL)
    assert isinstance(local, Store)
    assert isinstance(remote, Store)
    return local, remote


def test_a_bucket_reads_as_a_folder(twin: Twin) -> None:
    local, remote = both(twin)
    assert remote.table.equals(local.table)
    assert remote.attributes == local.attributes
    assert remote.references.equals(local.references)
    assert len(remote) > 3
    for mine, theirs in zip(remote, local, strict=True):
        assert mine.attributes == theirs.attributes
        assert mine.references.equals(theirs.references)
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
        np.testing.assert_array_equal(np.asarray(mine.dask()), theirs.numpy())
        assert mine.to_xarray().equals(theirs.to_xarray())
        one = fastdcm.open(str(mine.place))
        assert isinstance(one, Volume)
        assert one.shape == mine.shape
    with pytest.raises(UsageError, match="is no folder"):
        _ = remote.path


def test_commands(twin: Twin, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    local, _ = both(twin)
    name = local.table["volume"].to_pylist()[0]
    for command in ("ls", "info"):
        assert run([command, str(twin.path)]) == 0
        expected = capfd.readouterr().out
        assert run([command, URL]) == 0
        assert capfd.readouterr().out == expected.replace(str(twin.path), URL)
    assert run(["info", f"{URL}/{name}"]) == 0
    assert run(["export", f"{URL}/{name}", str(tmp_path / "a.mha")]) == 0
    assert run(["export", f"{twin.path}/{name}", str(tmp_path / "b.mha")]) == 0
    assert (tmp_path / "a.mha").read_bytes() == (tmp_path / "b.mha").read_bytes()
    assert run(["compare", f"{URL}#{name.split('/')[1]}/0", f"{twin.path}/{name}"]) == 0
    assert run(["diff", f"{URL}#{name.split('/')[1]}/0", f"{twin.path}/{name}"]) == 0


def test_verify_finds_a_lost_shard_a_lost_marker_and_a_flipped_byte(twin: Twin) -> None:
    assert fastdcm.verify(URL, twin.source).exit_code == 0
    _, remote = both(twin)
    name = remote.table["volume"].to_pylist()[0]
    shard = f"some where/out.zarr/{name}/0/image/c/" + "/".join("0" * len(remote[0].shape))
    data = twin.boto.get_object(Bucket="bucket", Key=shard)["Body"].read()
    try:
        twin.boto.put_object(Bucket="bucket", Key=shard, Body=data[:20] + bytes([data[20] ^ 1]) + data[21:])
        assert {one.check for one in fastdcm.verify(URL).mismatches} & {"hash", "read"}
        twin.boto.delete_object(Bucket="bucket", Key=shard)
        assert "shard" in {one.check for one in fastdcm.verify(URL).mismatches}
    finally:
        twin.boto.put_object(Bucket="bucket", Key=shard, Body=data)
    marker = f"some where/out.zarr/{name}/zarr.json"
    data = twin.boto.get_object(Bucket="bucket", Key=marker)["Body"].read()
    try:
        twin.boto.delete_object(Bucket="bucket", Key=marker)
        found = fastdcm.verify(URL).mismatches
        assert [(one.check, one.volume) for one in found] == [("tables", name)]
    finally:
        twin.boto.put_object(Bucket="bucket", Key=marker, Body=data)


@pytest.mark.parametrize(
    ("url", "message"),
    [("s3://nobucket/x.zarr", "no such bucket"), ("s3://bucket/none.zarr", "is no store"), ("s3://", "is no URL")],
)
def test_what_is_not_there(twin: Twin, url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fastdcm.open(url)
