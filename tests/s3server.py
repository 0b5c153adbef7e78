"""A moto S3 server on loopback, with one empty bucket, and the environment that points to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

KEY, SECRET = "test", "testsecret"


def environment(endpoint: str) -> dict[str, str]:
    """Return the variables of a client of a local server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client() -> Any:
    """Return an independent S3 client (boto3) of the server in the environment."""
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2})
    return boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], config=config)


@contextmanager
def s3_server(bucket: str = "bucket") -> Iterator[Any]:
    """Serve an empty bucket; give a boto3 client."""
    from moto.server import ThreadedMotoServer

    from fastdcm.objects import forget_stores

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with patch.dict(os.environ, environment(f"http://{host}:{port}")):
            forget_stores()
            boto = client()
            boto.create_bucket(Bucket=bucket)
            yield boto
            boto.close()
    finally:
        forget_stores()
        server.stop()


def keys(boto: Any, bucket: str = "bucket", prefix: str = "") -> dict[str, bytes]:
    """Return all objects with their content, read by boto3."""
    found = {}
    for page in boto.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            found[item["Key"]] = boto.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    return found
