import errno
import io
import json
import socket
import sys
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem_operator.api import LLMService
from tandem_operator.documents import DocumentError
from tandem_operator.local.addresses import NoAddressError, free_address, is_free
from tandem_operator.local.endpoints import document, write
from tandem_operator.local.expand import expand
from tandem_operator.local.pods import NotLocalError, ProcessSpec, process
from tandem_operator.local.source import deployments, one_service, with_port

QUICKSTART = Path("manifests/samples/quickstart.yaml")


def named(content: str) -> TextIO:
    stream = io.StringIO(content)
    stream.name = "service.yaml"
    return stream


@pytest.fixture
def quickstart() -> LLMService:
    return one_service(named(QUICKSTART.read_text()))


def worker(service: LLMService, pool: str) -> ProcessSpec:
    return process(deployments(service).pools[pool], 1, "127.0.1.7", "file:/run/endpoints.json")


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(POD_IP):80", "10.0.0.1:80"),
        ("$(A)$(POD_IP)$(A)", "x10.0.0.1x"),
        ("$$(POD_IP)", "$(POD_IP)"),
        ("$$$(A)", "$x"),
        ("$(NOT_SET)", "$(NOT_SET)"),
        ("$POD_IP ${A} $", "$POD_IP ${A} $"),
        ("$(A", "$(A"),
        ("$$$$", "$$"),
    ],
)
def test_references_expand_as_in_a_pod(text: str, expanded: str) -> None:
    assert expand(text, {"POD_IP": "10.0.0.1", "A": "x"}) == expanded


@given(st.text(alphabet="$AB) x", max_size=20))
def test_text_without_references_stays_but_for_escapes(text: str) -> None:
    assert expand(text, {}) == text.replace("$$", "$")


def test_a_worker_process_is_its_pod_with_an_address_of_its_own(quickstart: LLMService) -> None:
    spec = worker(quickstart, "decode")
    assert spec.name == "quickstart-decode-1"
    assert spec.argv[:4] == (sys.executable, "-m", "tandem_operator", "worker")
    assert "$(POD_IP)" not in " ".join(spec.argv)
    assert spec.argv[spec.argv.index("--host") + 1] == "127.0.1.7"
    assert spec.env["POD_IP"] == "127.0.1.7"
    assert spec.env["POD_NAME"] == "quickstart-decode-1"
    assert spec.readiness.url == "http://127.0.1.7:8100/readyz"
    assert spec.pool == "decode"


def test_only_discovery_differs_from_the_cluster(quickstart: LLMService) -> None:
    router = process(deployments(quickstart).router, 0, "127.0.0.1", "file:/run/endpoints.json")
    assert router.env["TANDEM_DISCOVERY"] == "file:/run/endpoints.json"
    assert router.pool is None
    assert router.readiness.url == "http://127.0.0.1:8000/readyz"


def test_another_port_reaches_arguments_and_probe(quickstart: LLMService) -> None:
    router = process(deployments(with_port(quickstart, 8123)).router, 0, "127.0.0.1", "file:x")
    assert router.argv[router.argv.index("--port") + 1] == "8123"
    assert router.readiness.url == "http://127.0.0.1:8123/readyz"


def test_environment_values_expand_from_earlier_ones(quickstart: LLMService) -> None:
    deployment = deployments(quickstart).pools["decode"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["env"] += [
        {"name": "URL", "value": "http://$(POD_IP)/$(LATER)"},
        {"name": "LATER", "value": "x"},
    ]
    container["args"].append("$(URL)")
    spec = process(deployment, 0, "127.0.1.1", "file:x")
    assert spec.env["URL"] == "http://127.0.1.1/$(LATER)"
    assert spec.argv[-1] == "http://127.0.1.1/$(LATER)"


def test_what_only_a_cluster_has_is_refused(quickstart: LLMService) -> None:
    deployment = deployments(quickstart).pools["decode"]
    pod = deployment["spec"]["template"]["spec"]
    pod["volumes"].append({"name": "model", "persistentVolumeClaim": {"claimName": "models"}})
    with pytest.raises(NotLocalError, match="volume model needs a cluster"):
        process(deployment, 0, "127.0.1.1", "file:x")
    pod["volumes"].pop()
    secret = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    pod["containers"][0]["env"].append(secret)
    with pytest.raises(NotLocalError, match="TOKEN takes its value from the cluster"):
        process(deployment, 0, "127.0.1.1", "file:x")


def test_the_endpoints_file_is_what_the_router_reads(quickstart: LLMService, tmp_path: Path) -> None:
    spec = worker(quickstart, "prefill")
    path = tmp_path / "endpoints.json"
    write(path, document([(spec, True)], "recall"))
    [endpoint] = json.loads(path.read_text())["endpoints"]
    revision = endpoint.pop("revision")
    assert revision in spec.argv
    assert endpoint == {
        "name": "quickstart-prefill-1",
        "address": "127.0.1.7",
        "port": 8100,
        "role": "prefill",
        "pool": "prefill",
        "engine": "native",
        "model": "recall",
        "ready": True,
        "kv_port": 8200,
        "bootstrap_port": 0,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_an_address_is_free_when_nothing_listens_there() -> None:
    with socket.create_server(("127.0.1.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.1.1", port)
        assert free_address([], [port]) != "127.0.1.1"
        assert free_address(["127.0.1.2"], [port]) not in ("127.0.1.1", "127.0.1.2")
    assert is_free("127.0.1.1", port)


def test_a_foreign_address_is_an_error_in_words() -> None:
    with pytest.raises(NoAddressError, match=r"192.0.2.1 is not an address of this machine") as caught:
        is_free("192.0.2.1", 80)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: [", "is no YAML: line 1, column 5"),
        ("\x00", "is no YAML"),
        ("", "holds no LLMService"),
        ("kind: Pod", "is None Pod, not"),
        (f"{QUICKSTART.read_text()}\n---\n{QUICKSTART.read_text()}", "holds 2 LLMServices"),
    ],
)
def test_a_bad_file_is_one_clear_line(content: str, text: str) -> None:
    with pytest.raises(DocumentError) as caught:
        one_service(named(content))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_field_is_named() -> None:
    content = QUICKSTART.read_text().replace("role: decode", "role: decoder")
    with pytest.raises(DocumentError, match=r"spec.pools\[1\].role: must be"):
        one_service(named(content))
