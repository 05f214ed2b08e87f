"""The service: takes requests from RabbitMQ, draws them on one GPU, answers each exactly once."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("imagegen")
except PackageNotFoundError:  # run from a bare checkout, as the check on a GPU machine does
    VERSION = "0+unknown"
