"""The rows of the table, in its order, with what each has to reach."""

from __future__ import annotations

from fractions import Fraction

from bench import building, contracts, registry_work
from bench.row import Row, at_most, fewer_requests, little_more_cpu, within_mebibytes, within_seconds

_FAR = 50
_FEW = 3

ROWS = (
    Row("`--help`", registry_work.start_up("--help"), (at_most(1.5, "python"),), 25),
    Row("`--version`", registry_work.start_up("--version"), (), 25),
    Row("`verify` of an empty project", registry_work.start_up("verify", codes=(2,)), (), 9),
    *(
        Row(f"resolve {count} images, {far} ms", registry_work.resolve(count, far))
        for count, far in ((1, _FAR), (10, 0), (10, 10), (10, _FAR), (10, 150))
    ),
    Row(
        f"resolve 100 images, {_FAR} ms",
        registry_work.resolve(100, _FAR),
        (at_most(Fraction(1, 20), "crane"), at_most(1.3, "floor")),
        _FEW,
    ),
    Row(
        f"publish a fresh image of 5 layers, {_FAR} ms",
        registry_work.publish("fresh", _FAR),
        (fewer_requests("skopeo"), fewer_requests("crane")),
    ),
    Row(f"publish it again, {_FAR} ms", registry_work.publish("again", _FAR)),
    Row(f"publish it under a second tag, {_FAR} ms", registry_work.publish("tag", _FAR)),
    Row(f"publish it to another repository, {_FAR} ms", registry_work.publish("repository", _FAR)),
    *(
        Row(f"sign and publish {count}, cosign, {_FAR} ms", registry_work.sign_cosign(count, _FAR), runs=_FEW)
        for count in (1, 10)
    ),
    Row(
        f"sign and publish 50, cosign, {_FAR} ms",
        registry_work.sign_cosign(50, _FAR),
        (at_most(Fraction(1, 10), "cosign"), at_most(1.5, "floor")),
        _FEW,
    ),
    *(Row(f"sign {count}, OpenPGP", registry_work.sign_gpg(count)) for count in (1, 10)),
    Row("sign 50, OpenPGP", registry_work.sign_gpg(50), (at_most(Fraction(1, 4), "skopeo"),)),
    *(
        Row(f"verify {count} images, {_FAR} ms", registry_work.verify(count, _FAR), runs=_FEW)
        for count in (1, 10)
    ),
    Row(
        f"verify 100 images, {_FAR} ms",
        registry_work.verify(100, _FAR),
        (at_most(Fraction(1, 15), "cosign"), at_most(1.5, "floor")),
        _FEW,
    ),
    Row(
        f"verify 1000 unsigned images, {_FAR} ms",
        registry_work.verify_many(1000, 10, _FAR),
        (at_most(100, "10 images"), within_mebibytes(150)),
        _FEW,
    ),
    Row("encrypt and sign a contract", contracts.encrypt, (at_most(Fraction(1, 3), "openssl script"),)),
    Row("emit a workload of 20 images", contracts.emit(20), (little_more_cpu(0.05, "1 image"),), 9),
    Row("emit a workload of 200 images", contracts.emit(200)),
    Row(
        "cold `run`, 10 images of 5 MB",
        building.cold(10, 5_000_000),
        (at_most(0.8, "bake + cosign + shell"),),
        _FEW,
    ),
    Row("`run` of the same, builds cached", building.warm(10, 5_000_000), runs=_FEW),
    Row(
        f"unchanged `run` of 10 images, {_FAR} ms",
        building.unchanged(10, _FAR),
        (within_seconds(3 * _FAR / 1000 + 0.4, "3 round trips + 0.4 s"),),
    ),
    Row(
        "cold `run`, 10 images of 200 MB",
        building.cold(10, 200_000_000),
        (at_most(0.9, "bake + cosign + shell"),),
        2,
    ),
    Row(
        "1 MB changed on an image of 300 MB",
        building.changed(300_000_000, 1_000_000),
        (at_most(1.15, "docker buildx"),),
        _FEW,
    ),
    Row("audit of a machine with 20 images", contracts.audit(20)),
)
