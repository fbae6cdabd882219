"""What `make test-newest` says before its tests: the versions there, and which are newer than any tested so far."""

import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
allowed = next(each for each in map(Requirement, project["dependencies"]) if each.name == "transformers").specifier
here = version("transformers")
print(f"torch {version('torch')}, transformers {here}; pyproject.toml allows transformers{allowed}")
if here not in allowed:
    print(
        f"transformers {here} is NEWER THAN TESTED: where all tests below pass, raise the cap in pyproject.toml, "
        "and name the version in the README"
    )
