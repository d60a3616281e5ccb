"""TSCHED_POOLS: which pools a runner serves."""

import pytest

from tsched.model.fleet import Pool
from tsched.model.selector import selector

POOLS = (
    Pool(name="dev", queue="dev"),
    Pool(name="eu", queue="eu", labels={"zone": "eu"}),
    Pool(name="eu-gpu", queue="eu-gpu", labels={"zone": "eu", "tier": "gpu"}),
    Pool(name="us-gpu", queue="us-gpu", labels={"zone": "us", "tier": "gpu"}),
)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", "dev eu eu-gpu us-gpu"),
        ("dev,eu", "dev eu"),  # names: any of them
        ("zone=eu", "eu eu-gpu"),
        ("zone==eu,tier=gpu", "eu-gpu"),  # labels: all of them
        ("zone!=eu", "dev us-gpu"),  # one without the label is not in it either
        ("tier=gpu, zone != eu", "us-gpu"),
        ("dev,zone=eu,tier=gpu", "dev eu-gpu"),  # the names, and besides them what the labels choose
        ("zone=eu,zone=us", ""),
        ("nobody", ""),
    ],
)
def test_names_add_and_labels_narrow(text: str, chosen: str) -> None:
    found = selector(text)
    assert [pool.name for pool in POOLS if found.chooses(pool)] == chosen.split()
    assert selector(str(found)) == found


@pytest.mark.parametrize(
    "text", ["Dev", "zone=", "=eu", "zone!eu", "!zone", "zone in (eu", "Zone=eu", "zone=eu=us", "zone=a b", "zone=-x"]
)
def test_what_can_be_no_part_of_it_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="zone=eu or zone!=eu, separated by commas") as caught:
        selector(f"dev, {text}")
    assert repr(text) in str(caught.value)
