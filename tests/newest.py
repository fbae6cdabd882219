"""What `make test-newest` and `make test-py312` say first: the versions there, and which are newer than any tested."""

import tomllib
from importlib.metadata import version
from pathlib import Path
from platform import python_version

from packaging.requirements import Requirement

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
allowed = next(each for each in map(Requirement, project["dependencies"]) if each.name == "transformers").specifier
here = version("transformers")
print(f"Python {python_version()}, torch {version('torch')}, transformers {here}")
print(f"pyproject.toml allows transformers{allowed}")
if here not in allowed:
    print(
        f"transformers {here} is NEWER THAN TESTED: where all tests below pass, raise the cap in pyproject.toml, "
        "and name the version in docs/families.md"
    )
