"""Print a pip constraint for the lowest version that setup.py allows of each package that users need."""

from importlib.metadata import requires

from packaging.requirements import Requirement

for requirement in map(Requirement, requires("lightning-blocks") or []):
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        (lowest,) = (one.version for one in requirement.specifier if one.operator == ">=")
        print(f"{requirement.name}=={lowest}")
