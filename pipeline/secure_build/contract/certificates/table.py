"""Which image of a runtime has which encryption certificate, as far as it is public.

SHA-256 fingerprints of the certificates that IBM publishes with its contract library (repository
`ibm-hyper-protect/contract-go`, folder `encryption`). The table is never complete: it can say that a
certificate is another image's, and of what it does not list it says nothing. One certificate may
serve several images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Image(NamedTuple):
    """An image of a runtime."""

    target: str
    version: str

    def __str__(self) -> str:
        return f"{self.target} {self.version}"


_FEBRUARY_2026 = "3fd42e88f71b7b7983bf99918ffb2000e86ff6a34786673d544549a6daec85f3"
_MARCH_2026 = "3335d8435c6a0e783736e82eaefedd824626bc4c1cc971330bf5af801c71d6eb"

FINGERPRINTS: Mapping[Image, str] = {
    Image("hpvs", "1.0.26"): _FEBRUARY_2026,
    Image("hpvs", "1.0.27"): _MARCH_2026,
    Image("hpvs", "1.0.28"): _FEBRUARY_2026,
    Image("hpvs", "1.0.29"): "94306ba858ac414d4b71a6ca20d37688bd11950e0632180b1154074c37fdd301",
    Image("ccrt", "26.2.0"): _FEBRUARY_2026,
    Image("ccrt", "26.5.0"): _MARCH_2026,
    Image("ccrt", "26.7.2"): "9e2a411b34f1917cc0ec8171b46da9f21985193610e6f065244cffe4036695ea",
    Image("ccrt", "26.9.1"): "1484b98906432acba4e859efd11b7fa32bf8da89f3c228609a50782f1858b0a3",
    Image("ccrv", "26.4.1"): "38b0f9a7d8a50dea024edbab621833bcf7563397270e6ebced31ee423622fea3",
    Image("ccrv", "26.5.0"): _MARCH_2026,
    Image("ccrv", "26.7.1"): "c54a25cc1dfe081743d5e514ecdbce5359006f8d4aff91d3e65e5c6e7215e456",
    Image("ccrv", "26.9.0"): "444af3d4f307f4d89358b4e11c61f2a0c4c846f1ce6dd04e56d482c36c628a25",
    Image("ccco", "26.4.0"): "399912235c69cfd51f04ea0bf9363d6e848a410f6dd9b9a61622806c6fad52e8",
    Image("ccco", "26.7.1"): "b07e6754f7ff7e900317602f45e2f610b4d662efcc30948487c38617d1011db8",
}


def images_of(fingerprint: str) -> list[Image]:
    """The images that are known to have this certificate, in the order of the table."""
    return [image for image, known in FINGERPRINTS.items() if known == fingerprint]
