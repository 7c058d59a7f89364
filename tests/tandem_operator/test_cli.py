"""The command `tandem`: what it loads, what it says, and how it ends."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from tandem_operator import cli
from tandem_operator.cli import main

REPO = Path(__file__).parents[2]
QUICKSTART = REPO / "manifests/samples/quickstart.yaml"


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def test_help_lists_every_command_with_a_summary_and_loads_none() -> None:
    code = (
        "import sys\nfrom tandem_operator.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'kopf', 'kubernetes', 'aiohttp', 'yaml'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert out.splitlines()[-1] == "[]"
    for name, summary in cli.SUMMARIES.items():
        assert name in out
        assert summary in out


def test_every_entry_point_has_a_summary() -> None:
    assert set(cli._found()) == set(cli.SUMMARIES)


def test_the_version_is_told() -> None:
    assert run("--version").output.startswith("tandem, version ")


def test_an_unknown_command_is_one_line_and_a_hint() -> None:
    result = run("serve")
    assert result.exit_code == 2
    assert "No such command 'serve'" in result.output


@pytest.mark.parametrize(("command", "extra"), [("worker", "worker"), ("up", "operator,router,worker")])
def test_a_missing_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, command: str, extra: str
) -> None:
    class Point:
        value = "x:y"

        def load(self) -> click.Command:
            raise ModuleNotFoundError("No module named 'torch'", name="torch.nn")

    monkeypatch.setattr(cli, "_found", lambda: {command: Point()})
    result = run(command)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: `tandem {command}` needs torch, which is not installed:"
        f" pip install 'tandem-serve[{extra}]'\n"
    )


def test_a_module_of_our_own_that_is_missing_is_a_bug_and_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        value = "x:y"

        def load(self) -> click.Command:
            raise ModuleNotFoundError("No module named 'tandem_router.command'", name="tandem_router.command")

    monkeypatch.setattr(cli, "_found", lambda: {"router": Point()})
    assert isinstance(run("router").exception, ModuleNotFoundError)


def rendered(*arguments: str) -> list[dict[str, Any]]:
    result = run("render", "-f", str(QUICKSTART), *arguments)
    assert result.exit_code == 0, result.output
    return list(yaml.safe_load_all(result.output))


def test_render_prints_both_levels() -> None:
    kinds = [manifest["kind"] for manifest in rendered()]
    assert kinds.count("Deployment") == 3
    assert kinds.count("WorkerPool") == 2
    assert kinds[-2:] == ["WorkerPool", "Deployment"], "a pool is followed by what is made for it"


def test_render_takes_images_from_options_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_ROUTER_IMAGE", "reg/router:7")
    deployments = [
        each for each in rendered("--worker-image", "reg/worker:7") if each["kind"] == "Deployment"
    ]
    images = {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in deployments}
    assert images == {"reg/router:7", "reg/worker:7"}


def test_render_is_the_same_every_time() -> None:
    assert rendered() == rendered()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no LLMService"),
        ("a: [", "is no YAML"),
        ("- 1", "document 1 is no Kubernetes object"),
        ("kind: Pod\napiVersion: v1", "document 1 is v1 Pod, not tandemserve.dev/v1alpha1 LLMService"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("{[1]: 2}", "is no YAML"),
    ],
)
def test_a_file_that_is_none_of_ours_is_one_clear_error(text: str, told: str) -> None:
    result = run("render", "-f", "-", text=text)
    assert result.exit_code == 1
    assert told in result.output
    assert "Traceback" not in result.output


def test_a_bad_spec_lists_every_wrong_field() -> None:
    good = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    good["spec"]["slo"] = {"ttft": "never"}
    good["spec"]["pools"][0]["role"] = "x"
    result = run("render", "-f", "-", text=yaml.safe_dump(good))
    assert result.exit_code == 1
    assert "spec.slo.ttft" in result.output
    assert "spec.pools[0].role" in result.output


def test_a_missing_file_is_a_usage_error() -> None:
    assert run("render", "-f", "/nowhere/x.yaml").exit_code == 2


def test_operator_without_a_cluster_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = {"PATH": "/usr/bin", "KUBECONFIG": str(tmp_path / "none")}
    command = [sys.executable, "-m", "tandem_operator", "operator"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: not in a pod, and no kubeconfig to use")
    assert len(result.stderr.splitlines()) == 1
