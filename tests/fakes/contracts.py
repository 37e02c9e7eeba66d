"""Contracts for property tests: for each target right ones, and ones that something was done to."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

PEM = "-----BEGIN {0}-----\nAAAABBBBCCCCDDDD\nAAAABBBBCCCCDDD=\n-----END {0}-----\n"
DIGEST = "sha256:" + "a" * 64
SEED = "0123456789abcdef"
LOGIN = {"username": "iamapikey", "password": "a-password"}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "app", "labels": {"app": "x"}, "annotations": {"a": "b"}},
    "spec": {
        "restartPolicy": "Always",
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsUser": 1000, "supplementalGroups": [1]},
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}],
        "initContainers": [{"name": "init", "image": f"us.icr.io/team/init@{DIGEST}"}],
        "containers": [
            {
                "name": "app",
                "image": f"us.icr.io/team/app@{DIGEST}",
                "command": ["sh"],
                "args": ["-c", "true"],
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [{"configMapRef": {"name": "contract.config.map", "optional": True}}],
                "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}],
                "resources": {"limits": {"memory": "64Mi", "cpu": 1}},
                "securityContext": {"privileged": False, "capabilities": {"add": ["NET_ADMIN"]}},
                "livenessProbe": {"httpGet": {"port": 80, "path": "/"}, "periodSeconds": 3},
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
            }
        ],
        "volumes": [
            {"name": "data", "hostPath": {"path": "/mnt/data", "type": "Directory"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
            {"name": "map", "configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
        ],
    },
}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}}
WORKLOAD: dict[str, Any] = {
    "type": "workload",
    "env": {"PORT": "8080", "_X1": ""},
    "auths": {"us.icr.io": LOGIN, "https://index.docker.io/v1/": LOGIN, "10.0.0.1:5000": LOGIN},
    "images": {
        "dct": {"us.icr.io/team/app": {"notary": "https://notary.example.com", "publicKey": "AAAA"}},
        "rhs": {"us.icr.io/team/app:v1.0": {"publicKey": "AAAA"}},
    },
    "volumes": {
        "data": {"seed": SEED, "previousSeed": SEED, "mount": "/mnt/data", "filesystem": "xfs"},
    },
}
COMPOSE = {"compose": {"archive": "AAAA"}}
PLAY = {"play": {"resources": [POD, CONFIG_MAP], "templates": [POD], "archive": "AAAA"}}
SECRET = {"verificationKey": "a key", "decryptionKey": "a key"}
CONFIDENTIAL = {
    "confidential-containers": {
        "regoValidator": {"policy": "AAAA"},
        "config": {
            "cosign": {"quay.io/team/app": {"publicKey": "AAAA"}, "test-image": {"publicKey": "AAAA"}}
        },
        "allowedContainers": {
            "app": {"allowedImages": {"imageNames": ["quay.io/team/app"], "imagePatterns": ["x"]}}
        },
        "secret": SECRET,
    }
}
VOLUME = {
    "previousSeed": SEED,
    "kms": [
        {
            "apiKey": "0123456789",
            "crn": "crn:v1:bluemix:public:kms:us-south:a/1:2:key:3",
            "type": "private",
        }
    ],
    "kmsTimeout": 20,
    "apiKey": "0123456789",
    "volumeName": "v",
    "volumeID": "abc",
}
GREP11 = {
    "address": "192.0.2.1:9876",
    "clientCert": "AAAA",
    "clientKey": "AAAA",
    "caCert": "AAAA",
    "metadata": {"aesKeyBlob": "AAAA", "previousaesKeyBlob": "****"},
}
ENV: dict[str, Any] = {
    "type": "env",
    "env": {"A": "b"},
    "auths": {"us.icr.io": LOGIN},
    "cacerts": [{"mine": "AAAA", "other": "AAAABBBB"}],
    "signingKey": PEM.format("PUBLIC KEY"),
    "volumes": {"data": VOLUME | {"seed": SEED}},
}
ROUTER = {"logRouter": {"hostname": "logs.example.com", "iamApiKey": "0123456789", "port": 443}}
SYSLOG = {
    "syslog": {
        "hostname": "192.0.2.10",
        "port": 6514,
        "server": PEM.format("CERTIFICATE") * 2,
        "cert": PEM.format("CERTIFICATE"),
        "key": PEM.format("PRIVATE KEY"),
    }
}
ULTRAVISOR = {"uv-secret-id": "index-1", "uv-previous-secret-id": "index-2", "grep11": GREP11}
HOST_KEY = {"description": "a machine", "host-key-doc": "AAAA"}


def full(target: str) -> list[dict[str, Any]]:
    """Contracts that are right on a target and have between them every field that it knows."""
    if target == "ccco":
        router = {"logRouter": ROUTER["logRouter"] | {"tags": ["a"]}}
        env = ENV | {"logging": router, "host-attestation": {"m1": HOST_KEY}}
        workloads = [WORKLOAD | CONFIDENTIAL]
        envs = [env | {"confidential-containers": {"secret": SECRET}}, ENV, env | {"logging": SYSLOG}]
    else:
        workloads = [WORKLOAD | PLAY, *([WORKLOAD | COMPOSE] if target != "ccrv" else [])]
        volumes = {"volumes": {"data": VOLUME | ULTRAVISOR, "more": {"seed": SEED}}}
        envs = [ENV | {"logging": ROUTER}, ENV | {"logging": SYSLOG} | volumes]
    sides = {"attestationPublicKey": PEM.format("PUBLIC KEY"), "envWorkloadSignature": "AAAA BBB="}
    return [
        copy.deepcopy({"workload": workload, "env": env, **sides}) for workload in workloads for env in envs
    ]


# Values that are right in some places and wrong in others.
TEXTS = st.sampled_from(
    [
        *(
            "",
            "a",
            "ab",
            "abc",
            "AAAA",
            "AAAA\n",
            "AAA",
            "A===",
            "-AAA",
            "AAAA BBBB",
            "*",
            "***",
            "yes",
            "v1",
        ),
        *("us.icr.io", "us.icr.io/ns", "1reg.io", "my_reg.io", "999.1.1.1", "10.0.0.1", "localhost:5000"),
        *("https://index.docker.io/v1", "https://us.icr.io", "us.icr.io/team/app:v1", "us.icr.io/abc/my.img"),
        *("0123456789abcd", "0123456789abcde", "0123456789 abcdef", "0123456789abc/=", "index-9", "index-3"),
        *("/mnt/", "/", "mnt", "/a\n", "/a/b", "a:1", "a:123456", "Pod", "ConfigMap", "Deployment", "public"),
        *(PEM.format(kind) for kind in ("PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE", "EC PRIVATE KEY")),
        *(
            PEM.format("CERTIFICATE").replace("\n", ""),
            PEM.format("PUBLIC KEY").replace("KEY-----\n", "KEY----\n"),
        ),
    ]
) | st.text(max_size=6)
SCALARS = TEXTS | st.integers(-1, 70000) | st.booleans() | st.none() | st.just(0.5)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from(
    """compose play confidential-containers archive resources templates auths auth images image Images cosign
    notary publicKey tag email seed previousSeed uv-secret-id kms grep11 kmsTimeout logRouter syslog logDNA
    signingKey cacerts host-attestation secret kind spec metadata name boot type env volumes x""".split()
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path] * bool(path) + [place for key, value in inner for place in _places(value, (*path, key))]


@st.composite
def mutated(draw: st.DrawFn, target: str) -> dict[str, Any]:
    """A right contract after up to three changes: a value replaced, a key renamed, taken out or put in."""
    contract = copy.deepcopy(draw(st.sampled_from(full(target))))
    for _ in range(draw(st.integers(0, 3))):
        places = _places(contract)
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder: Any = contract
        for part in above:
            holder = holder[part]
        change = draw(st.sampled_from(["replace", "text", "remove", "rename", "add", "empty"]))
        if change == "remove":
            del holder[last]
        elif change == "add" and isinstance(holder, dict):
            holder[draw(KEYS | TEXTS)] = draw(VALUES)
        elif change == "rename" and isinstance(holder, dict):
            holder[draw(KEYS | TEXTS)] = holder.pop(last)
        elif change == "empty":
            holder[last] = type(holder[last])()
        else:
            holder[last] = draw(TEXTS if change == "text" else VALUES)
    return contract
