"""Builds the C core; everything else about the package is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["netring_bpf/ring/_build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
